//! Protocol errors that come back: the same packet that breaks the same rule, on one link after the other.
//!
//! A broker may send such a packet on each link, for one because it retains a message with a bad topic. Acknowledgments
//! in between change nothing: without an end, the loop would make a new link each time. Errors are
//! the same if they are about the same bytes, apart from packet identifier and DUP. Only a link that lasted ends a
//! row; closes, resets and time-outs in between do not. Pure; the loop's thread.

use std::time::Duration;

use crate::mqtt::packet::ProtocolError;

/// So many links in a row end in the same protocol error before it counts as permanent.
pub(super) const ENOUGH: u32 = 5;

/// A link that was up for this long ends the row.
const LASTING: Duration = Duration::from_secs(60);

/// How many different errors are remembered. A broker could send others without end.
const MOST: usize = 32;

/// The errors since a link lasted, each with the number of links that it ended.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<(ProtocolError, u32)>);

impl Violations {
    /// A link is gone that was up for so long.
    pub(super) fn link_lost(&mut self, lasted: Duration) {
        if lasted >= LASTING {
            self.0.clear();
        }
    }

    /// A link ends because of this error. Returns how many links have.
    pub(super) fn count(&mut self, error: &ProtocolError) -> u32 {
        let mut all = self.0.iter();
        let before = match all.position(|(known, _)| known.is_same_as(error)) {
            Some(at) => self.0.remove(at).1,
            None => 0,
        };
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        let times = before.saturating_add(1);
        self.0.push((error.clone(), times));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> ProtocolError {
        ProtocolError::unexpected("PUBLISH", "it is bad", "MQTT-1.5.3-1").with_beginning(bytes)
    }

    #[test]
    fn only_a_link_that_lasted_ends_a_row() {
        let mut violations = Violations::default();
        let bad = error(&[0x30, 4, 0, 1, 0xff, 1]);
        for times in 1..=4 {
            assert_eq!(violations.count(&bad), times);
            violations.link_lost(LASTING - Duration::from_millis(1));
            assert_eq!(violations.count(&error(&[0x30, times as u8])), 1);
        }
        violations.link_lost(LASTING);
        assert_eq!(violations.count(&bad), 1);
    }

    #[test]
    fn many_others_push_out_the_one_that_came_longest_ago() {
        let mut violations = Violations::default();
        let bad = error(&[0xf0, 1]);
        for number in 0..200 {
            assert_eq!(violations.count(&bad), number + 1);
            assert_eq!(violations.count(&error(&[0xf1, number as u8])), 1);
        }
        assert_eq!(violations.0.len(), MOST);
        assert_eq!(violations.count(&error(&[0xf1, 0])), 1);
    }
}
