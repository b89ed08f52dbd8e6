//! Topic aliases: numbers that stand for a topic on one link, in each direction [MQTT 5, 3.3.2.3.4]. Pure.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;

/// The aliases of topics that we publish to. The topic that was not used for the longest time makes way.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentAliases {
    most: u16,
    /// The alias of a topic, and when it was used.
    topics: HashMap<Box<str>, (NonZeroU16, u64)>,
    /// The topics in the order in which they were used.
    order: BTreeMap<u64, Box<str>>,
    uses: u64,
}

/// The alias of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentAlias {
    pub(crate) alias: NonZeroU16,
    /// Whether the broker has seen it with this topic on this link, so that the topic is left out.
    pub(crate) topic_is_known: bool,
}

impl SentAliases {
    /// A new link, on which there may be so many.
    pub(crate) fn new(most: u16) -> Self {
        SentAliases {
            most,
            ..SentAliases::default()
        }
    }

    /// Whether the link has any.
    pub(crate) fn are_allowed(&self) -> bool {
        self.most > 0
    }

    /// The alias of a message to this topic, which is about to be sent.
    pub(crate) fn of(&mut self, topic: &str) -> Option<SentAlias> {
        if !self.are_allowed() {
            return None;
        }
        self.uses += 1;
        if let Some((alias, used)) = self.topics.get_mut(topic) {
            let before = std::mem::replace(used, self.uses);
            if let Some(topic) = self.order.remove(&before) {
                self.order.insert(self.uses, topic);
            }
            return Some(SentAlias {
                alias: *alias,
                topic_is_known: true,
            });
        }
        let count = u16::try_from(self.topics.len()).unwrap_or(u16::MAX);
        let alias = match count < self.most {
            true => NonZeroU16::MIN.saturating_add(count),
            false => {
                let (_, oldest) = self.order.pop_first()?;
                self.topics.remove(&oldest)?.0
            }
        };
        self.topics.insert(topic.into(), (alias, self.uses));
        self.order.insert(self.uses, topic.into());
        Some(SentAlias {
            alias,
            topic_is_known: false,
        })
    }
}

/// The topics for which the broker has stated aliases on this link.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceivedAliases {
    /// The topic of alias 1 comes first. Empty where none was stated.
    topics: Vec<String>,
}

impl ReceivedAliases {
    /// The link is gone.
    pub(super) fn clear(&mut self) {
        self.topics.clear();
    }

    /// From now on the alias stands for this topic.
    pub(super) fn set(&mut self, alias: NonZeroU16, topic: &str) {
        let place = usize::from(alias.get()) - 1;
        if self.topics.len() <= place {
            self.topics.resize(place + 1, String::new());
        }
        topic.clone_into(&mut self.topics[place]);
    }

    /// The topic for which the alias stands.
    pub(super) fn get(&self, alias: NonZeroU16) -> Option<&str> {
        let topic = self.topics.get(usize::from(alias.get()) - 1)?;
        Some(topic.as_str()).filter(|topic| !topic.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_that_was_not_used_for_the_longest_time_makes_way() {
        let mut aliases = SentAliases::new(2);
        let mut of = |topic| {
            let sent = aliases.of(topic).unwrap();
            (sent.alias.get(), sent.topic_is_known)
        };
        assert_eq!(of("a"), (1, false));
        assert_eq!(of("b"), (2, false));
        assert_eq!(of("a"), (1, true));
        assert_eq!(of("c"), (2, false), "b made way");
        assert_eq!(of("a"), (1, true));
        assert_eq!(of("b"), (2, false), "c made way");
        assert_eq!(SentAliases::new(0).of("a"), None);
    }

    #[test]
    fn an_alias_stands_for_the_topic_that_was_stated_last() {
        let mut aliases = ReceivedAliases::default();
        let alias = NonZeroU16::new(7).unwrap();
        assert_eq!(aliases.get(alias), None);
        aliases.set(alias, "a");
        aliases.set(alias, "b");
        assert_eq!(aliases.get(alias), Some("b"));
        assert_eq!(aliases.get(NonZeroU16::MIN), None);
        aliases.clear();
        assert_eq!(aliases.get(alias), None);
    }
}
