//! The rule book of the session, seen from outside. Pure; built for tests and fuzzing only.
//!
//! [`Harness`] does to a session what the loop would do and shows each event and each packet to the [`Record`],
//! which holds them to the rules. `wire.rs` of the decoder's tests reads the packets: neither the codec nor the
//! session is asked.
//!
//! | rule | where |
//! |---|---|
//! | every packet is well formed and reads as one that a client may send | `harness.rs` |
//! | no event comes for nothing, no timer spins, memory and output are bounded | `events.rs`, `harness.rs` |
//! | a packet that the broker must not send is refused, and no other one is | `record.rs`, `receives` |
//! | CONNECT first and once, nothing before CONNACK or after DISCONNECT [MQTT-3.1.0-1] [MQTT-3.14.4-2] | `record/output.rs` |
//! | no identifier is used for two things [MQTT-2.3.1-2] | `record.rs` |
//! | an identifier that PUBREC came for is in use until PUBCOMP, also where nothing was sent under it | `record.rs` |
//! | DUP where the broker's session may have seen it, and only there [MQTT-3.3.1-1] | `record/output.rs` |
//! | on each link PUBLISH packets leave once and in the order of their commands [MQTT-4.6.0-1] | `record/output.rs` |
//! | PUBREL answers PUBREC at once, again on each link, in order [MQTT-4.6.0-4]; PUBCOMP answers PUBREL | `record.rs` |
//! | at most eight filters in a packet; lost subscriptions are renewed before anything is published | `record/output.rs` |
//! | between PUBLISH and PUBCOMP there are no more QoS 2 messages than their window allows | `record/output.rs` |
//! | a message that could be delivered twice is not sent in another session | `record/output.rs` |
//! | each command ends once, because of the packet that ends it, and with what is true of its bytes | `events.rs` |
//! | a SUBSCRIBE or UNSUBSCRIBE is answered only on a link on which it was sent | `record.rs` |
//! | once an UNSUBSCRIBE has ended as delivered, its filters are neither served nor subscribed until a command asks for them | `events.rs`, `record.rs`, `harness.rs` |
//! | a message is delivered once for each arrival, and not again where its identifier shows that it is known | `arrivals.rs` |
//! | PUBACK and PUBREC leave in the order of arrival, for messages that were accepted [MQTT-4.6.0-2] | `arrivals.rs` |
//! | a message that was accepted is acknowledged as soon as its turn comes | `arrivals.rs` |
//! | a message that waits counts as accepted within the limit, and only there | `arrivals.rs` |
//! | all that waits is on one account, also when it was acknowledged or its session was lost | `arrivals.rs` |
//! | a message is left with the broker where there is no room for it, and only there | `arrivals.rs` |
//! | while a PUBLISH is suspected, nothing is sent before PINGRESP, and then one packet at a time; not on the link after one that showed nothing | `trials.rs` |
//! | a trial link stands idle half as long again as those before it lived | `trials.rs` |
//! | a command is given up after so many links closed with it alone, soon and without company | `trials.rs` |
//! | or where it was suspected and stood while a command of the same link was answered, PUBREL apart | `trials.rs` |
//! | giving up is told, and then the outcome of the command or the end of the renewal | `events.rs` |
//! | the identifier of a PUBREL that is given up is never used again | `record.rs` |
//! | QoS 2 is taken once by the broker, and first arrivals come in order | `server.rs` |
//! | MQTT 5: no more PUBLISHes of QoS 1 and 2 are under way than the broker takes on this link [MQTT-3.3.4-7] | `version5.rs` |
//! | MQTT 5: where messages that stand take all of that on so many links, and the broker answers PINGREQ, the first suspect among them is given up, and not before | `trials.rs`, `version5.rs` |
//! | MQTT 5: no request waits for that, or, unless as much waits as may, is left in the queue because of it [MQTT-3.3.4-8]: on a link that renews subscriptions, as soon as they are answered; on a trial link, as soon as it stands idle no more, while nothing is tried | `version5.rs` |
//! | MQTT 5: a message that the broker refused has ended, is told as refused, and is not sent again [MQTT-4.4.0-2] | `version5.rs`, `events.rs` |
//! | MQTT 5: nothing leaves beyond the limits of CONNACK, and what ends because of them is told truly | `version5.rs` |
//! | MQTT 5: what is not known is answered with 0x92; the broker sends no more messages than it was told | `version5.rs` |

mod arrivals;
mod events;
#[cfg(test)]
mod faults;
mod harness;
mod record;
pub(super) mod server;
mod trials;
mod version5;

pub(super) use harness::Harness;
#[cfg(test)]
pub(super) use {
    arrivals::Verdict, faults::FAULTS, faults::needs_suspects, faults::needs_version5,
    record::Kind, record::Token,
};

/// The result of a check: nothing, or the rule that was broken.
pub(super) type Rule = Result<(), String>;

/// A deliberate fault of the session, which the rules have to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests commit them"))]
pub(super) enum Fault {
    None,
    /// The link stays after a packet that was refused.
    ViolationIgnored,
    /// An outcome gets lost on its way.
    OutcomeLost,
    /// An outcome is told twice.
    OutcomeTwice,
    /// A command whose link was lost is told so and sent again all the same.
    ToldTwice,
    /// A message is accepted as soon as it is delivered.
    AcceptedByItself,
    /// A message is handed over twice.
    MessageTwice,
    /// PUBREL is sent without its flags.
    WrongFlags,
    /// DUP is never set.
    NoDup,
    /// PUBACK leaves as PUBCOMP.
    WrongAnswer,
    /// The first byte of each packet is lost.
    ByteLost,
    /// A lost link is told to the session too late.
    LossUntold,
    /// The identifier is freed when PUBREC comes.
    FreedAtPubrec,
    /// The same, for a message that is not known.
    UnknownIsFree,
    /// There is no window for QoS 2.
    Qos2Unbounded,
    /// Packets are sent again in the order of their identifiers.
    SentByIdentifier,
    /// Subscriptions that the broker forgot are not renewed.
    RenewalForgotten,
    /// Everything in flight is dropped when the session was lost.
    DroppedWithSession,
    /// The session forgets which messages it has when the link is lost.
    UnreleasedForgotten,
    /// A message left with the broker counts as received when it comes again.
    LeftIsKnown,
    /// A message left with the broker is acknowledged.
    LeftIsAcknowledged,
    /// QoS 1 that was accepted and not acknowledged on the last link makes way for what comes before it.
    MakesWay,
    /// A message that counts as accepted while it waits is not acknowledged.
    EarlyIgnored,
    /// More bytes count as accepted while they wait than may.
    EarlyBeyondTheLimit,
    /// Messages that wait are off the account once their session is lost.
    AccountForgotten,
    /// A command that links are lost with is sent on beside others.
    TriedTogether,
    /// A command is given up with the first link that is closed with it alone.
    GivenUpAtOnce,
    /// A command is given up, and nobody is told before its outcome.
    GivenUpUntold,
    /// A command that stands is given up when PINGRESP comes.
    GivenUpWithoutWitness,
    /// A close counts against a command although another packet left on that link.
    CompanyForgotten,
    /// A trial link stands idle for no time.
    IdleCut,
    /// A SUBACK for a SUBSCRIBE of an earlier link counts.
    EarlierLinkAnswers,
    /// A request does not wait for another one for the same filter.
    RequestOvertakes,
    /// The rest of a request is sent with the answer to the packet before, whatever is tried.
    RestIsSentAtOnce,
    /// An UNSUBSCRIBE that has overtaken the rest of a SUBSCRIBE is not made once more.
    OvertakenForgotten,
    /// The identifier of a PUBREL that is given up is used again.
    GivenUpIsFree,
    /// More PUBLISHes leave than the broker takes at one time.
    QuotaIgnored,
    /// The number of the first link holds on each.
    QuotaOfEarlierLink,
    /// A message of QoS 2 makes room when PUBREC comes.
    QuotaFreedAtPubrec,
    /// A message that was refused takes its place on.
    QuotaKeptByRefused,
    /// A message that is never answered, and takes all of the quota, is kept.
    FillsForEver,
    /// Requests wait behind messages.
    RequestHeld,
    /// PUBREC that refuses counts as one that does not.
    RefusalIsReleased,
    /// The message that a PUBACK refuses is sent on.
    RefusalUnheard,
    /// A message that was refused is told as delivered.
    RefusalUntold,
    /// A message leaves although its QoS is above the broker's maximum.
    LimitIgnored,
    /// A message is told as never sent, and was.
    SentAndNeverSent,
}
