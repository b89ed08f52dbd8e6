//! Who is interested in one filter.
//!
//! Most filters have one interested queue: that one is kept in place, without memory of its own,
//! because finding it there saves a message the wait for one more place in memory. Pure; the
//! loop's thread.

use std::slice;

use crate::client::inbox::InboxId;
use crate::mqtt::packet::QoS;

/// A queue's interest in a filter, as one SUBSCRIBE made it.
#[derive(Debug)]
pub(super) struct Interest {
    pub(super) inbox: InboxId,
    pub(super) number: u64,
    pub(super) qos: QoS,
    /// Its SUBSCRIBE was answered.
    pub(super) granted: bool,
    /// Its UNSUBSCRIBE is under way.
    pub(super) leaving: bool,
}

/// All interests in a filter, in the order in which they came.
#[derive(Debug)]
pub(super) enum Interests {
    One(Interest),
    /// None, or several.
    Listed(Vec<Interest>),
}

impl Default for Interests {
    fn default() -> Self {
        Interests::Listed(Vec::new())
    }
}

impl Interests {
    pub(super) fn push(&mut self, interest: Interest) {
        *self = match std::mem::take(self) {
            Interests::Listed(none) if none.is_empty() => Interests::One(interest),
            Interests::One(first) => Interests::Listed(vec![first, interest]),
            Interests::Listed(mut several) => {
                several.push(interest);
                Interests::Listed(several)
            }
        };
    }

    /// Keeps those that `stays` says yes to.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&Interest) -> bool) {
        match self {
            Interests::One(one) if stays(one) => {}
            Interests::One(_) => *self = Interests::default(),
            Interests::Listed(several) => {
                several.retain(stays);
                if several.len() == 1
                    && let Some(one) = several.pop()
                {
                    *self = Interests::One(one);
                }
            }
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Interest] {
        match self {
            Interests::One(one) => slice::from_mut(one),
            Interests::Listed(several) => several,
        }
    }

    pub(super) fn as_slice(&self) -> &[Interest] {
        match self {
            Interests::One(one) => slice::from_ref(one),
            Interests::Listed(several) => several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(number: u64) -> Interest {
        Interest {
            inbox: InboxId(number),
            number,
            qos: QoS::AtMostOnce,
            granted: false,
            leaving: false,
        }
    }

    fn numbers(interests: &Interests) -> Vec<u64> {
        interests.as_slice().iter().map(|i| i.number).collect()
    }

    #[test]
    fn one_several_one_again_and_none() {
        let mut interests = Interests::default();
        assert_eq!(numbers(&interests), [0; 0]);
        for number in 1..=3 {
            interests.push(interest(number));
        }
        assert_eq!(numbers(&interests), [1, 2, 3]);
        interests.retain(|i| i.number == 2);
        assert!(matches!(interests, Interests::One(_)));
        assert_eq!(numbers(&interests), [2]);
        interests.push(interest(4));
        assert_eq!(numbers(&interests), [2, 4]);
        interests.as_mut_slice()[1].granted = true;
        interests.retain(|i| i.granted);
        interests.retain(|i| i.number == 4);
        assert_eq!(numbers(&interests), [4]);
        interests.retain(|_| false);
        assert_eq!(numbers(&interests), [0; 0]);
    }
}
