//! Names that are nearly those of a setting.
//!
//! Pure; the main thread uses it.

use super::settings::keys;

/// The setting whose name is nearest to this one, if it is near.
pub(super) fn nearest(name: &str) -> Option<String> {
    let distances = keys().into_iter().map(|key| (distance(name, &key), key));
    let (distance, key) = distances.min()?;
    (distance <= 1 + name.len() / 5).then_some(key)
}

/// Letters to insert, remove or replace to make one word the other (Levenshtein).
pub(super) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("qos", "qos"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
