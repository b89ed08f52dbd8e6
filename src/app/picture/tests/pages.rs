//! The page: it has what the model has, nothing from outside breaks out of its place, and it stays small.

use serde_json::Value;

use super::made_up::{NASTY, many, small};
use crate::app::picture::page;

/// The text of an element of the page.
fn element<'a>(page: &'a str, begin: &str) -> &'a str {
    let (_, after) = page
        .split_once(begin)
        .unwrap_or_else(|| panic!("no {begin}"));
    after.split_once("</script>").unwrap().0
}

fn data(page: &str) -> Value {
    serde_json::from_str(element(
        page,
        "<script id=\"data\" type=\"application/json\">",
    ))
    .unwrap()
}

#[test]
fn the_page_names_each_lane_and_has_as_many_rows() {
    let picture = small();
    let page = page(&picture);
    let data = data(&page);
    let lanes = data["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), picture.lanes.len());
    for (written, lane) in lanes.iter().zip(&picture.lanes) {
        assert_eq!(written["rows"], lane.rows);
        assert_eq!(written["crowd"], lane.has_crowd);
    }
    // Six of the asynchronous publisher are under way at a time, and one of the other.
    assert_eq!((picture.lanes[0].rows, picture.lanes[1].rows), (2, 7));
    assert_eq!(data["span"], picture.span);
}

#[test]
fn nothing_from_outside_breaks_out_of_its_place() {
    let page = page(&small());
    assert!(!page.contains(NASTY));
    assert!(!page.contains("<b>"));
    assert_eq!(page.matches("<script").count(), 3, "data, numbers and code");
    assert_eq!(page.matches("</script>").count(), 3);
    assert!(!page.contains("<!--"));
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'));
    // The braces of a name are text like any other.
    assert!(page.contains("{{data}}"));
    let name = data(&page)["lanes"][2]["name"].as_str().unwrap().to_owned();
    assert!(
        name.starts_with("subscriber </script><b>\"'&\u{2401}\u{fffd}"),
        "{name}"
    );
}

#[test]
fn the_page_loads_nothing() {
    let page = page(&small());
    for word in [
        "http:", "https:", "src=", "href=", "url(", "@import", "import(", "fetch(",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_hundred_thousand_messages_take_at_most_20_mb() {
    let page = page(&many(100_000));
    assert!(page.len() < 20_000_000, "{} bytes", page.len());
}
