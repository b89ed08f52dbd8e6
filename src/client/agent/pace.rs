//! The loop's pace: few large batches under load, few hand-overs when one message goes at a time.
//!
//! Four policies behind one face, [`Pace`]: when commands may use the window, when the acknowledgments of
//! messages leave, whether the loop looks again before it sleeps, and whether it pauses. They decide and do
//! nothing; the loop's thread asks them and passes in the time.

use std::time::{Duration, Instant};

/// How long a window that was full may wait for more room than a single acknowledgment makes.
const REFILL_TIME: Duration = Duration::from_millis(1);

/// How long the loop looks again, after it did something, before it sleeps: about as long as it takes
/// to be woken twice. Anything later comes rarely enough to be woken for.
const LOOKING_TIME: Duration = Duration::from_micros(50);

/// Commands in flight above which the loop does not look again, unless acknowledgments come fast: many are
/// better read at once.
const FEW: usize = 4;

/// How often in a row looking again may be in vain before the loop stops doing so.
const TRUST: u8 = 8;

/// From one acknowledgment to the next, where they come so fast that the loop looks for them instead of
/// sleeping or pausing. A pause would make the distance longer, and so be a reason for the next pause.
const FAST: Duration = Duration::from_micros(2);

/// Commands in flight from which on acknowledgments may be left to come together.
const MANY: usize = 32;

/// A portion of work, in commands or messages: few enough that the broker does not wait long for them, and so many that
/// they are worth a system call.
const SMALLEST_PORTION: usize = 16;
const LARGEST_PORTION: usize = 256;

/// The first portion of received messages. AWS IoT Core sends 100 messages at most without an acknowledgment. A larger
/// portion would be nearly all of them.
const FIRST_MESSAGES: u64 = 64;

/// Shorter pauses cost more than they save, longer ones are felt by others.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_micros(500);

/// Acknowledgments that a pause has to be worth.
const WORTH_A_PAUSE: u32 = 4;

/// Acknowledgments, or time, over which their rate is measured.
const SAMPLE: u32 = 64;
const SAMPLE_TIME: Duration = Duration::from_millis(10);

/// The four policies.
#[derive(Debug)]
pub(super) struct Pace {
    window: Window,
    messages: MessagePortion,
    spin: Spin,
    arrivals: AckArrivals,
}

impl Pace {
    pub(super) fn new(single_core: bool, now: Instant) -> Self {
        Pace {
            window: Window::Open,
            messages: MessagePortion::FIRST,
            spin: Spin::new(single_core, now),
            arrivals: AckArrivals::new(now),
        }
    }

    /// So many commands are in flight in a window of this size.
    pub(super) fn update_window(&mut self, in_flight: usize, limit: u16, now: Instant) {
        self.window = self.window.at(now, in_flight, limit);
    }

    /// Whether commands may use the window.
    pub(super) fn window_is_open(&self) -> bool {
        self.window == Window::Open
    }

    /// After how many received messages their acknowledgments leave, though more messages are there.
    pub(super) fn message_portion(&self) -> u64 {
        self.messages.0
    }

    /// A portion of messages was handled, and more may be there.
    pub(super) fn portion_was_handled(&mut self) {
        self.messages = self.messages.next();
    }

    /// All that had come was read.
    pub(super) fn link_was_drained(&mut self) {
        self.messages = MessagePortion::FIRST;
    }

    /// One command has ended.
    pub(super) fn command_ended(&mut self) {
        self.arrivals.count();
    }

    /// There was something to do.
    pub(super) fn was_busy(&mut self, now: Instant) {
        self.spin.was_busy(now);
    }

    /// There was nothing to do: whether to look again at once, with so many commands in flight.
    pub(super) fn looks_again(&mut self, in_flight: usize, now: Instant) -> bool {
        let is_worth_it = self.arrivals.come_soon(in_flight);
        self.spin.looks_again(now, is_worth_it)
    }

    /// How long to let acknowledgments come together, with so many awaited.
    pub(super) fn pause(&mut self, in_flight: usize, now: Instant) -> Option<Duration> {
        self.arrivals.pause(now, in_flight)
    }

    /// The loop slept for so long.
    pub(super) fn slept(&mut self, lasted: Duration) {
        self.spin.slept(lasted);
    }

    /// When the loop has to ask again at the latest. The window counts only while the session wants
    /// commands.
    pub(super) fn deadline(&self, wants_commands: bool) -> Option<Instant> {
        self.window.deadline().filter(|_| wants_commands)
    }
}

/// Whether commands may use the session's window.
///
/// One acknowledgment after the other would make one packet after the other, each in a write of its
/// own, and the broker would answer in the same way. So a window that was full opens only when a
/// quarter of it is free, or room for a large portion, or after a moment: as TCP avoids silly windows
/// (RFC 1122, 4.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Open,
    /// Every slot is taken.
    Full,
    /// There is room again, not much of it.
    Refilling {
        until: Instant,
    },
}

impl Window {
    /// The next state, with so many commands in flight.
    fn at(self, now: Instant, in_flight: usize, limit: u16) -> Window {
        let free = usize::from(limit).saturating_sub(in_flight);
        let enough = usize::from(limit / 4).min(LARGEST_PORTION);
        match self {
            _ if free == 0 => Window::Full,
            Window::Open => Window::Open,
            Window::Full | Window::Refilling { .. } if free >= enough => Window::Open,
            Window::Full => Window::Refilling {
                until: now + REFILL_TIME,
            },
            Window::Refilling { until } if until <= now => Window::Open,
            Window::Refilling { until } => Window::Refilling { until },
        }
    }

    /// When it opens although little of it is free.
    fn deadline(self) -> Option<Instant> {
        match self {
            Window::Refilling { until } => Some(until),
            Window::Open | Window::Full => None,
        }
    }
}

/// How many commands have to end before others have their turn again, though more acknowledgments are
/// there: with this many free, a window opens that was full.
pub(super) fn portion(window: u16) -> usize {
    usize::from(window / 4).clamp(SMALLEST_PORTION, LARGEST_PORTION)
}

/// When the acknowledgments of received messages leave although more messages are there.
///
/// A broker may have sent all that it may have on its way. It would wait until the loop has handled the last of these
/// messages, and the loop would wait until the next ones come. So the first acknowledgments leave early. Each portion
/// costs both sides a system call, so the next ones are larger while there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MessagePortion(u64);

impl MessagePortion {
    const FIRST: MessagePortion = MessagePortion(FIRST_MESSAGES);

    fn next(self) -> MessagePortion {
        MessagePortion((2 * self.0).min(LARGEST_PORTION as u64))
    }
}

/// Whether the loop looks again for a moment before it sleeps: where one thread waits for one answer
/// and then sends the next message, waking the loop each time would cost more than the rest.
///
/// It does so only after it had something to do. It gives up where experience says that nothing comes
/// so soon, as on a connection that is far away, idle, or shares a single core.
#[derive(Debug)]
struct Spin {
    busy_at: Instant,
    /// On a single core nobody can answer while the loop looks.
    single_core: bool,
    looking: bool,
    /// How often more it may be in vain.
    trust: u8,
}

impl Spin {
    fn new(single_core: bool, now: Instant) -> Self {
        Spin {
            busy_at: now,
            single_core,
            looking: false,
            trust: TRUST,
        }
    }

    /// There was something to do.
    fn was_busy(&mut self, now: Instant) {
        if std::mem::take(&mut self.looking) {
            self.trust = TRUST;
        }
        self.busy_at = now;
    }

    /// There was nothing to do: whether to look again at once, if it is worth it at all.
    fn looks_again(&mut self, now: Instant, is_worth_it: bool) -> bool {
        let again = self.trust > 0
            && is_worth_it
            && now.saturating_duration_since(self.busy_at) < LOOKING_TIME
            && !self.single_core;
        if !again && std::mem::take(&mut self.looking) {
            self.trust -= 1;
        }
        self.looking |= again;
        again
    }

    /// The loop slept. If that was short, looking again would have been better.
    fn slept(&mut self, lasted: Duration) {
        if self.trust == 0 && lasted < LOOKING_TIME {
            self.trust = 1;
        }
    }
}

/// Lets acknowledgments come together where a broker sends one after the other while many are
/// awaited: being woken for each would cost more than the message.
///
/// A pause takes an eighth at most of the time that a message takes anyway, and follows only after
/// something came: with nothing coming the loop is asleep until it is told.
#[derive(Debug)]
struct AckArrivals {
    since: Instant,
    count: u32,
    /// From one acknowledgment to the next, where it was measured.
    interval: Option<Duration>,
    /// Something came after the last pause.
    came: bool,
}

impl AckArrivals {
    fn new(now: Instant) -> Self {
        AckArrivals {
            since: now,
            count: 0,
            interval: None,
            came: false,
        }
    }

    /// One command has ended.
    fn count(&mut self) {
        self.count = self.count.saturating_add(1);
        self.came = true;
    }

    /// Whether the next acknowledgment is likely to come before a sleeping loop could be woken: with so
    /// few awaited, or because they come that fast.
    fn come_soon(&self, in_flight: usize) -> bool {
        in_flight <= FEW || self.interval.is_some_and(|interval| interval < FAST)
    }

    /// How long to let more acknowledgments come, with so many awaited.
    fn pause(&mut self, now: Instant, in_flight: usize) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.since);
        if self.count >= SAMPLE || elapsed >= SAMPLE_TIME {
            self.interval = elapsed.checked_div(self.count);
            self.since = now;
            self.count = 0;
        }
        if in_flight < MANY || !std::mem::take(&mut self.came) {
            return None;
        }
        let interval = self.interval.filter(|interval| *interval >= FAST)?;
        let eighth = interval.saturating_mul(u32::try_from(in_flight / 8).unwrap_or(u32::MAX));
        let pause = eighth.min(LONGEST_PAUSE);
        (pause >= SHORTEST_PAUSE && pause >= interval.saturating_mul(WORTH_A_PAUSE))
            .then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_micros(1);

    #[test]
    fn a_window_that_was_full_opens_for_a_quarter() {
        let now = Instant::now();
        let mut window = Window::Open.at(now, 99, 100);
        assert_eq!(window, Window::Open, "it is used to the last slot");
        window = window.at(now, 100, 100);
        assert_eq!(window, Window::Full);
        window = window.at(now, 80, 100);
        assert!(matches!(window, Window::Refilling { .. }));
        assert_eq!(window.at(now, 75, 100), Window::Open);
        assert_eq!(window.at(now, 100, 100), Window::Full);
    }

    #[test]
    fn a_portion_opens_the_window() {
        let now = Instant::now();
        for limit in [64, 100, 1_000, 2_000, u16::MAX] {
            let full = Window::Open.at(now, usize::from(limit), limit);
            let in_flight = usize::from(limit) - portion(limit);
            assert_eq!(full.at(now, in_flight, limit), Window::Open, "{limit}");
        }
        assert_eq!(portion(1), SMALLEST_PORTION);
        assert_eq!(portion(u16::MAX), LARGEST_PORTION);
    }

    #[test]
    fn a_window_of_which_little_is_free_opens_after_a_moment() {
        let now = Instant::now();
        let window = Window::Full.at(now, 99, 100);
        assert_eq!(window, window.at(now + REFILL_TIME - MOMENT, 98, 100));
        assert_eq!(window.at(now + REFILL_TIME, 99, 100), Window::Open);
    }

    #[test]
    fn the_window_has_a_deadline_while_the_session_wants_commands() {
        let now = Instant::now();
        let mut pace = Pace::new(false, now);
        assert_eq!(pace.deadline(true), None);
        pace.update_window(100, 100, now);
        assert!(!pace.window_is_open());
        pace.update_window(99, 100, now);
        assert_eq!(pace.deadline(true), Some(now + REFILL_TIME));
        assert_eq!(pace.deadline(false), None, "nothing could use the window");
        pace.update_window(99, 100, now + REFILL_TIME);
        assert!(pace.window_is_open());
        assert_eq!(pace.deadline(true), None);
    }

    #[test]
    fn a_small_window_opens_at_once() {
        let now = Instant::now();
        for limit in 1..8 {
            let full = Window::Open.at(now, usize::from(limit), limit);
            assert_eq!(full, Window::Full);
            assert_eq!(full.at(now, usize::from(limit) - 1, limit), Window::Open);
        }
    }

    #[test]
    fn portions_of_messages_grow_until_the_link_is_drained() {
        let mut pace = Pace::new(false, Instant::now());
        let mut portions = Vec::new();
        for _ in 0..4 {
            portions.push(pace.message_portion());
            pace.portion_was_handled();
        }
        assert_eq!(portions, [64, 128, 256, 256]);
        pace.link_was_drained();
        assert_eq!(pace.message_portion(), 64);
    }

    /// Acknowledgments at this distance, long enough to be measured.
    fn arrivals(interval: Duration) -> (AckArrivals, Instant) {
        let mut now = Instant::now();
        let mut arrivals = AckArrivals::new(now);
        for _ in 0..SAMPLE {
            now += interval;
            arrivals.count();
        }
        (arrivals, now)
    }

    #[test]
    fn acknowledgments_that_trickle_in_are_let_come_together() {
        let (mut arrivals, now) = arrivals(Duration::from_micros(10));
        let eighth = Some(Duration::from_micros(250));
        assert_eq!(arrivals.pause(now, 200), eighth);
        assert_eq!(arrivals.pause(now, 200), None, "nothing came since");
        arrivals.count();
        assert_eq!(arrivals.pause(now, 60_000), Some(LONGEST_PAUSE));
        arrivals.count();
        assert_eq!(arrivals.pause(now, MANY - 1), None);
    }

    #[test]
    fn neither_fast_nor_slow_acknowledgments_are_waited_for() {
        for interval in [400, 1_900, 130_000].map(Duration::from_nanos) {
            let (mut arrivals, now) = arrivals(interval);
            assert_eq!(arrivals.pause(now, 1000), None, "{interval:?}");
        }
    }

    #[test]
    fn it_looks_again_for_a_moment_after_work_and_never_when_idle() {
        let start = Instant::now();
        let mut spin = Spin::new(false, start);
        spin.was_busy(start);
        assert!(spin.looks_again(start + MOMENT, true));
        assert!(!spin.looks_again(start + LOOKING_TIME, true));
        assert!(!spin.looks_again(start + LOOKING_TIME * 1000, true));
    }

    #[test]
    fn it_looks_for_few_or_fast_acknowledgments_and_not_for_many_slow_ones() {
        let (mut fast, now) = arrivals(Duration::from_nanos(400));
        fast.pause(now, 1000);
        assert!(fast.come_soon(1000) && fast.come_soon(FEW));
        let (mut slow, now) = arrivals(FAST);
        slow.pause(now, 1000);
        assert!(!slow.come_soon(1000));
        assert!(slow.come_soon(1));
    }

    #[test]
    fn it_never_looks_again_under_load_or_on_a_single_core() {
        let start = Instant::now();
        let mut spin = Spin::new(false, start);
        assert!(!spin.looks_again(start, false));
        let mut spin = Spin::new(true, start);
        assert!(!spin.looks_again(start, true));
    }

    #[test]
    fn it_gives_up_what_is_always_in_vain_until_a_sleep_was_short() {
        let mut now = Instant::now();
        let mut spin = Spin::new(false, now);
        let mut in_vain = 0;
        for _ in 0..100 {
            spin.was_busy(now);
            in_vain += u32::from(spin.looks_again(now, true));
            now += LOOKING_TIME;
            assert!(!spin.looks_again(now, true));
            spin.slept(LOOKING_TIME);
        }
        assert_eq!(in_vain, u32::from(TRUST));
        spin.slept(LOOKING_TIME - MOMENT);
        spin.was_busy(now);
        assert!(spin.looks_again(now, true));
        // Not in vain.
        spin.was_busy(now);
        assert_eq!(spin.trust, TRUST);
    }
}
