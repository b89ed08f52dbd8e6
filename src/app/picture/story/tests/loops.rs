//! Stories of several loops, and the pauses between them.

use super::*;

#[test]
fn a_run_without_end_keeps_its_last_loops() {
    let mut recordings = Recordings::default();
    for _ in 0..5 {
        recordings.keep_records(records(&["main", "publisher"], one_publish()), 15);
    }
    // Seven records each.
    assert_eq!((recordings.loops.len(), recordings.left_out), (2, 3));
    let picture = picture("a story", &recordings);
    assert_eq!(picture.lives.len(), 2);
    let said = "3 earlier iterations are left out";
    assert!(picture.facts.iter().any(|fact| fact == said));
    // One that is too large alone is kept all the same.
    recordings.keep_records(records(&["main"], vec![(1, 0, What::Woke); 20]), 15);
    assert_eq!((recordings.loops.len(), recordings.left_out), (1, 5));
}

#[test]
fn many_pauses_leave_most_of_the_room_to_the_loops() {
    let mut recordings = Recordings::default();
    for _ in 0..100 {
        recordings.keep_records(records(&["main", "publisher"], one_publish()), usize::MAX);
    }
    let picture = picture("a story", &recordings);
    let pauses: u64 = picture
        .pauses
        .iter()
        .map(|pause| pause.to - pause.from)
        .sum();
    assert_eq!(picture.pauses.len(), 99);
    assert!(pauses < picture.span / 6, "{pauses} of {}", picture.span);
}

#[test]
fn a_pause_is_never_drawn_longer_than_it_lasted() {
    let mut recordings = Recordings::default();
    let mut one = records(&["main", "publisher"], one_publish());
    recordings.keep_records(one, usize::MAX);
    for lasted in [3, 0, 5_000_000_000] {
        let before = recordings.loops.back().unwrap();
        let ended = before.began + Duration::from_nanos(before.length());
        one = records(&["main", "publisher"], one_publish());
        one.began = ended + Duration::from_nanos(lasted);
        recordings.keep_records(one, usize::MAX);
    }
    let picture = picture("a story", &recordings);
    let drawn = picture
        .pauses
        .iter()
        .map(|one| (one.to - one.from, one.lasted));
    // 4,000 ns of loops: a pause takes a fortieth of them at the most, and has to be there.
    let expected = [(3, 3), (1, 0), (100, 5_000_000_000)];
    assert_eq!(drawn.collect::<Vec<_>>(), expected);
    assert_eq!(picture.real(picture.span), 5_000_000_003 + 4_000);
}

#[test]
fn inside_of_a_pause_time_runs_faster() {
    let one = || records(&["main", "publisher"], one_publish());
    // Each lasts 1,000 ns, and the pause of 5 s takes 10.
    let picture = told(&[one(), one()]);
    assert_eq!(picture.real(999), 999);
    assert_eq!(picture.real(1_005), 1_000 + 2_500_000_000);
    assert_eq!(picture.real(1_011), 1_000 + 5_000_000_001);
}

#[test]
fn two_loops_share_their_lanes_and_the_time_between_them_is_a_strip() {
    let one = || records(&["main", "publisher"], one_publish());
    let picture = told(&[one(), one()]);
    assert_eq!(picture.lives.len(), 2);
    assert_eq!(picture.lives[1].from, 1000 + 10 + 100);
    assert_eq!(picture.real(1000), 1000);
    assert_eq!(picture.real(1010), 5_000_001_000);
    assert_eq!(
        picture
            .lanes
            .iter()
            .filter(|lane| lane.kind == LaneKind::Thread)
            .count(),
        1
    );
}
