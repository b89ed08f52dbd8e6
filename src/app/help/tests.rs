//! The help of each command: defaults, widths, examples.

use super::*;
use crate::app::command_line::parse_from;

fn command() -> clap::Command {
    command_of(Task::Demo)
}

#[test]
fn clap_finds_no_mistake_in_the_declarations() {
    command().debug_assert();
}

#[test]
fn help_shows_each_default() {
    let mut command = command();
    let help = command.render_long_help().to_string();
    let words: Vec<&str> = help.split_whitespace().collect();
    let help = words.join(" ");
    let defaults = defaults(Task::Demo);
    let mut shown = 0;
    for (key, value) in defaults {
        if value.is_bool() || !Task::Demo.takes(&key) {
            continue;
        }
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        let (_, after) = help
            .split_once(&format!(" --{key} "))
            .unwrap_or_else(|| panic!("--{key} is not in the help"));
        let own = after.split(" --").next().unwrap();
        assert!(
            own.contains(&format!("[default: {value}]")),
            "--{key}: {own}"
        );
        shown += 1;
    }
    assert!(shown > 15);
    assert_eq!(help.matches("[default: ").count(), shown + 6, "{help}");
}

/// Longer ones leave a word or two on a line of their own.
#[test]
fn no_line_of_the_help_is_broken() {
    let front = front_page();
    let all = [
        AFTER_HELP,
        BENCH_AFTER_HELP,
        CHECK_AFTER_HELP,
        PUB_AFTER_HELP,
        SUB_AFTER_HELP,
        SETTINGS_HELP,
    ];
    for text in all.into_iter().chain([front.as_str()]) {
        let long = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None);
    }
}

#[test]
fn the_front_page_fits_into_a_terminal_and_names_each_command() {
    let page = front_page();
    assert!(page.lines().count() <= 40, "{page}");
    for verb in Verb::ALL {
        assert!(page.contains(&format!("\n  {} ", verb.word())), "{page}");
    }
}

#[test]
fn each_example_parses() {
    let front = front_page();
    for (text, least) in [
        (front.as_str(), 5),
        (AFTER_HELP, 6),
        (BENCH_AFTER_HELP, 4),
        (CHECK_AFTER_HELP, 2),
        (PUB_AFTER_HELP, 2),
        (SUB_AFTER_HELP, 3),
        (SETTINGS_HELP, 2),
    ] {
        let text = text.replace("\\\n", "");
        let lines = text.lines().map(str::trim_start);
        let lines = lines.map(|line| line.split(" >").next().unwrap_or_default());
        let examples: Vec<&str> = lines
            .filter(|line| line.starts_with("mqtt-connection-sharing "))
            .collect();
        assert!(examples.len() >= least, "{text}");
        for example in examples {
            let parsed = parse_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
    }
}

#[test]
fn help_holds_the_values_of_the_original() {
    let defaults = defaults(Task::Demo);
    let default_text = |task, key| default_text(&defaults, task, key);
    for (key, text) in [
        ("iterations", "3"),
        ("publish-count", "8"),
        ("command-queue", "12"),
        ("inbox", "10"),
        ("qos", "1"),
    ] {
        assert_eq!(default_text(Task::Demo, key).as_deref(), Some(text));
    }
    assert_eq!(
        default_text(Task::Demo, "publish-delay").as_deref(),
        Some("100ms")
    );
    assert_eq!(
        default_text(Task::Demo, "iteration-delay").as_deref(),
        Some("5s")
    );
    assert_eq!(
        default_text(Task::Demo, "keep-alive").as_deref(),
        Some("60s")
    );
    assert_eq!(
        default_text(Task::Demo, "ack-timeout").as_deref(),
        Some("20s")
    );
    assert_eq!(
        default_text(Task::Demo, "retry-base").as_deref(),
        Some("500ms")
    );
    assert_eq!(default_text(Task::Demo, "retry-max").as_deref(), Some("5s"));
    assert_eq!(
        default_text(Task::Demo, "connect-interval").as_deref(),
        Some("1s")
    );
    assert_eq!(
        default_text(Task::Demo, "max-packet-size").as_deref(),
        Some("256KiB")
    );
    assert_eq!(
        default_text(Task::Demo, "topic-prefix").as_deref(),
        Some("filter")
    );
    assert_eq!(default_text(Task::Demo, "client-id"), None);
}

#[test]
fn help_has_headings_examples_and_exit_status_and_no_password_flag() {
    let help = command().render_help().to_string();
    for text in [
        "\nConnection:\n",
        "\nTLS:\n",
        "\nDemo:\n",
        "\nTuning:\n",
        "\nOutput:\n",
        "\nExamples:\n",
        "\nExit status:\n",
        "  130  interrupted",
        "--local",
        "amazonaws.com",
        "Mosquitto",
        "--output json",
    ] {
        assert!(help.contains(text), "{text:?} is missing");
    }
    for flag in ["password", "pkcs12-password"] {
        assert!(
            command()
                .get_arguments()
                .all(|a| a.get_long() != Some(flag))
        );
    }
}
