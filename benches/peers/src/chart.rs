//! The chart: horizontal bars on a logarithmic scale, as SVG.
//!
//! Its background is its own, light or dark as the reader's screen is, so that it can be read wherever
//! it is shown.

use std::fmt::Write as _;

use anyhow::Result;

use crate::suite::{Against, BENCH, BENCH_RECEIVE, Measured, OURS, OURS_5, RAW, RECORDED};
use crate::table::short;
use crate::work::Mode;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 74.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const HEADING: f64 = 30.0;
const SPACE: f64 = 14.0;

const STYLE: &str = "\
    text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .group { font-weight: 600 }
    .note { fill: #59636e; font-size: 12px }
    .page { fill: #ffffff; stroke: #d1d9e0 }
    .grid { stroke: #d1d9e0 }
    .raw { fill: #9aa4af }
    .ours { fill: #1a7f37 }
    .peer { fill: #5b8fd6 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .note { fill: #9198a1 }
      .page { fill: #0d1117; stroke: #3d444d }
      .grid { stroke: #2a313c }
      .raw { fill: #6e7681 }
      .ours { fill: #3fb950 }
      .peer { fill: #4c7fc4 }
    }
";

/// Draws the most important tasks.
pub fn svg(measured: &[Measured]) -> Result<String> {
    // The idle task has no rate, and one task is enough to show Mosquitto. The table has the rest.
    let is_shown = |task: &&Measured| match task.task.against {
        Against::Sink => match task.task.mode {
            Mode::Idle => false,
            Mode::Receive => !task.task.is_large() && task.task.window == 1000,
            Mode::Async | Mode::Sync => !task.task.is_large() && task.task.qos == 1,
        },
        Against::Mosquitto => task.task.mode == Mode::Async && task.task.window == 1000,
    };
    let tasks: Vec<&Measured> = measured.iter().filter(is_shown).collect();
    let rates = tasks
        .iter()
        .flat_map(|t| &t.medians)
        .map(|m| m.messages_per_second);
    let (low, high) = rates.fold((f64::MAX, 1.0_f64), |(low, high), rate| {
        (low.min(rate), high.max(rate))
    });
    let (first, last) = (low.max(1.0).log10().floor(), high.log10().ceil());
    let decades = (last - first).max(1.0);
    let unit = (WIDTH - LEFT - RIGHT) / decades;
    let at = |rate: f64| LEFT + (rate.max(1.0).log10() - first).max(0.0) * unit;

    let mut body = String::new();
    let mut y = TOP;
    for task in &tasks {
        writeln!(
            body,
            r#"  <text class="group" x="20" y="{:.0}">{}</text>"#,
            y + 14.0,
            heading(task)
        )?;
        y += HEADING - 6.0;
        for median in &task.medians {
            let class = match median.contender.as_str() {
                RAW => "raw",
                OURS | OURS_5 | RECORDED | BENCH | BENCH_RECEIVE => "ours",
                _ => "peer",
            };
            let rate = median.messages_per_second;
            let value = match median.latency_p50_us {
                Some(us) => format!("{} ({us:.0} µs)", short(rate)),
                None => short(rate),
            };
            let (name, end, base) = (&median.contender, at(rate), y + 13.5);
            writeln!(
                body,
                r#"  <text x="{:.0}" y="{base:.1}" text-anchor="end">{name}</text>"#,
                LEFT - 10.0
            )?;
            writeln!(
                body,
                r#"  <rect class="{class}" x="{LEFT:.0}" y="{y:.0}" width="{:.1}" height="{BAR}" rx="2"/>"#,
                (end - LEFT).max(1.0)
            )?;
            writeln!(
                body,
                r#"  <text x="{:.1}" y="{base:.1}">{value}</text>"#,
                end + 8.0
            )?;
            y += BAR + GAP;
        }
        y += SPACE;
    }
    let bottom = y - SPACE + 4.0;
    let mut grid = String::new();
    for decade in 0..=decades as i32 {
        let x = LEFT + f64::from(decade) * unit;
        let label = decade_label(first as i32 + decade);
        writeln!(
            grid,
            r#"  <line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{:.0}" y2="{bottom:.0}"/>"#,
            TOP - 4.0
        )?;
        writeln!(
            grid,
            r#"  <text class="note" x="{x:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
            bottom + 18.0,
            label
        )?;
    }
    let height = bottom + 34.0;
    Ok(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" width="{WIDTH:.0}" height="{height:.0}" role="img">
  <title>Messages per second of mqtt-connection-sharing, other clients and a raw loop</title>
  <style>
{STYLE}  </style>
  <rect class="page" x="0.5" y="0.5" width="{:.0}" height="{:.0}" rx="6"/>
  <text class="title" x="20" y="30">Messages per second over one TLS connection</text>
  <text class="note" x="20" y="50">QoS 1, 64-byte payloads, each acknowledged and counted; logarithmic scale</text>
{grid}{body}</svg>
"#,
        WIDTH - 1.0,
        height - 1.0
    ))
}

fn decade_label(exponent: i32) -> String {
    let (exponent, unit) = match exponent {
        6.. => (exponent - 6, " million"),
        3..6 => (exponent - 3, " thousand"),
        _ => (exponent, ""),
    };
    format!("{:.0}{unit}", 10_f64.powi(exponent))
}

fn heading(task: &Measured) -> String {
    let against = match task.task.against {
        Against::Sink => "A server that acknowledges at once",
        Against::Mosquitto => "Mosquitto",
    };
    match (task.task.mode, task.task.threads) {
        (Mode::Receive, threads) => format!(
            "Receiving: {} unacknowledged, {}",
            task.task.window,
            if threads == 1 {
                "1 thread".to_owned()
            } else {
                format!("{threads} threads")
            }
        ),
        (Mode::Sync, _) => format!("{against}: one message at a time (median round trip)"),
        (_, threads) => format!(
            "{against}: {} in flight, {threads} threads",
            task.task.window
        ),
    }
}
