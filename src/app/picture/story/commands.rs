//! The lives of commands: pushed, taken, sent, acknowledged, told.

use std::collections::BTreeMap;

use mqtt_connection_sharing::recording::{CommandEnd, PacketKind, What};

use super::{Doing, Interval, Life, Sign, Story, Unplaced};

/// The commands of one loop, by number.
#[derive(Default)]
pub(super) struct Commands {
    all: BTreeMap<u64, CommandLife>,
    /// When connections were lost.
    losses: Vec<u64>,
}

/// One command, as far as it is known.
#[derive(Default)]
struct CommandLife {
    lane: Option<u32>,
    /// Its steps. They are in order but for those of one time.
    steps: Vec<(u64, Step)>,
    what: &'static str,
    packet_id: u16,
    qos: Option<u8>,
    bytes: u64,
    end: &'static str,
    acknowledged: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Pushed,
    Taken,
    Sent,
    Lost,
    Ended,
    Told,
}

impl Commands {
    /// Takes a record over that is one of a command. `lane` is that of the thread that wrote it.
    pub(super) fn record(&mut self, at: u64, lane: Option<u32>, what: &What) {
        match *what {
            What::Pushed {
                command,
                packet,
                qos,
                bytes,
            } => {
                let own = self.step(command, at, Step::Pushed);
                own.lane = lane;
                own.what = packet.name();
                own.qos = qos.map(|qos| qos as u8);
                own.bytes = bytes;
            }
            What::HandedBack { command } => self.step(command, at, Step::Ended).end = "handed back",
            What::Taken { command } => {
                self.step(command, at, Step::Taken);
            }
            What::Encoded {
                number,
                packet_id,
                packet,
                ..
            } if is_command(packet) && number > 0 => {
                self.all.entry(number).or_default().packet_id = packet_id;
            }
            What::Written { number, packet, .. } if is_command(packet) && number > 0 => {
                self.step(number, at, Step::Sent);
            }
            What::Received { number, packet, .. }
                if number > 0 && packet != PacketKind::Publish =>
            {
                self.all.entry(number).or_default().acknowledged = Some(at);
            }
            What::Ended {
                command,
                end,
                answered,
            } => {
                let own = self.step(command, at, Step::Ended);
                own.end = end_words(end);
                if answered {
                    own.acknowledged = Some(at);
                }
            }
            What::Told { command } => {
                self.step(command, at, Step::Told);
            }
            What::Lost { .. } | What::Offline => self.losses.push(at),
            _ => {}
        }
    }

    fn step(&mut self, command: u64, at: u64, step: Step) -> &mut CommandLife {
        let own = self.all.entry(command).or_default();
        own.steps.push((at, step));
        own
    }

    /// Gives their lives to the story. Those whose push was not kept have no thread, and no life.
    pub(super) fn finish(self, story: &mut Story, end: u64) {
        for command in self.all.into_values() {
            let Some(lane) = command.lane else {
                continue;
            };
            let is_delivered = command.end == "delivered" || command.end.is_empty();
            let unplaced = command.life(lane, &self.losses, end);
            if !is_delivered {
                let text = format!("{}: {}", unplaced.life.what, unplaced.life.end);
                story.told(lane, unplaced.life.to, Sign::Failure, text);
            }
            story.lives.push(unplaced);
        }
    }
}

impl CommandLife {
    fn life(mut self, lane: u32, losses: &[u64], end: u64) -> Unplaced {
        // The part in which it may lose its link: from its first sending to its end.
        let find = |step: Step| {
            self.steps
                .iter()
                .find(|known| known.1 == step)
                .map(|known| known.0)
        };
        let (sent, ended) = (find(Step::Sent), find(Step::Ended));
        if let Some(sent) = sent {
            let until = ended.unwrap_or(end);
            let first = losses.partition_point(|lost| *lost < sent);
            let lost = losses[first..].iter().take_while(|lost| **lost < until);
            self.steps.extend(lost.map(|lost| (*lost, Step::Lost)));
        }
        self.steps.sort_unstable();
        let has_ended = ended.is_some();
        let mut intervals = Vec::new();
        let mut now: Option<(Doing, u64)> = None;
        let mut go = |now: &mut Option<(Doing, u64)>, at: u64, next: Option<Doing>| {
            if let Some((doing, since)) = *now {
                if next == Some(doing) {
                    return;
                }
                intervals.push(Interval::new(lane, since, at, doing));
            }
            *now = next.map(|next| (next, at));
        };
        let begin = self.steps.first().map_or(end, |step| step.0);
        let is_told = self.steps.iter().any(|step| step.1 == Step::Told);
        let mut last = begin;
        for (at, step) in &self.steps {
            last = *at;
            let next = match step {
                Step::Pushed => Some(Doing::Queued),
                Step::Taken | Step::Lost => Some(Doing::Unsent),
                Step::Sent => Some(Doing::OnItsWay),
                Step::Ended => is_told.then_some(Doing::Untold),
                Step::Told => None,
            };
            go(&mut now, *at, next);
        }
        if !has_ended {
            last = end;
        }
        go(&mut now, last, None);
        let sent = self
            .steps
            .iter()
            .filter(|step| step.1 == Step::Sent)
            .count();
        let life = Life {
            lane,
            what: self.what,
            packet_id: self.packet_id,
            qos: self.qos.unwrap_or(3),
            bytes: self.bytes,
            end: if has_ended { self.end } else { "not ended" },
            from: begin,
            to: last,
            acknowledged: self.acknowledged,
            sent: sent as u32,
        };
        Unplaced { life, intervals }
    }
}

/// Whether a packet carries out a command itself.
fn is_command(packet: PacketKind) -> bool {
    matches!(
        packet,
        PacketKind::Publish | PacketKind::Subscribe | PacketKind::Unsubscribe | PacketKind::PingReq
    )
}

fn end_words(end: CommandEnd) -> &'static str {
    match end {
        CommandEnd::Delivered => "delivered",
        CommandEnd::NeverSent => "never sent",
        CommandEnd::PerhapsDelivered => "perhaps delivered",
        CommandEnd::Refused => "refused",
        CommandEnd::Cancelled => "cancelled",
        _ => "ended",
    }
}
