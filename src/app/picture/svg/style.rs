//! Colours for light and dark, and the patterns. Pure; any thread.

use std::fmt::Write;

use super::Used;
use crate::app::picture::look::Filling;

/// Colours for light and dark, and the patterns, of the looks that are used.
pub(super) fn definitions(used: &Used) -> String {
    let mut light = String::new();
    let mut dark = String::new();
    let mut patterns = String::new();
    for doing in &used.doings {
        let (number, look) = (*doing as u8, doing.appearance());
        for (rules, colour) in [(&mut light, look.light), (&mut dark, look.dark)] {
            let _ = write!(
                rules,
                ".c{number}{{fill:{colour}}}.k{number}{{stroke:{colour}}}"
            );
            match look.filling {
                Filling::Solid => drop(write!(rules, ".s{number}{{fill:{colour}}}")),
                _ => drop(write!(
                    rules,
                    ".s{number}{{fill:url(#p{number});stroke:{colour};stroke-width:.8}}"
                )),
            }
        }
        let lines = match look.filling {
            Filling::Solid => continue,
            Filling::Hollow => "",
            Filling::Rising => "M-1 7L7 -1",
            Filling::Falling => "M-1 -1L7 7",
            Filling::Crossed => "M-1 7L7 -1M-1 -1L7 7",
            Filling::Dotted => "M1 1h2M4 4h2",
        };
        let _ = writeln!(
            patterns,
            "<pattern id=\"p{number}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect class=\"c{number}\" \
             width=\"6\" height=\"6\" opacity=\".25\"/><path class=\"k{number}\" stroke-width=\"1.4\" d=\"{lines}\"/></pattern>"
        );
    }
    for sign in &used.signs {
        let (number, look) = (*sign as u8, sign.glyph());
        for (rules, colour) in [(&mut light, look.light), (&mut dark, look.dark)] {
            let _ = write!(
                rules,
                ".g{number}{{fill:{colour};stroke:{colour};stroke-width:1.3}}"
            );
        }
    }
    light.push_str(".paper{fill:#fff}text{fill:#1b1d20}.d{fill:#53575e}.on{fill:#fff}.edge{stroke:#dcdee2;fill:none}.pause{fill:#e9ebee}");
    dark.push_str(".paper{fill:#16181b}text{fill:#e8eaed}.d{fill:#a5abb4}.on{fill:#101214}.edge{stroke:#33373d;fill:none}.pause{fill:#26292e}");
    format!(
        "<style>text{{font:12px system-ui,'Segoe UI',Helvetica,Arial,sans-serif}}.t{{font-size:17px;font-weight:600}}\
         .l{{font-size:13px;font-weight:600}}.in,.on{{font-size:11px}}.end{{text-anchor:end}}{light}@media (prefers-color-scheme:dark){{{dark}}}</style>\n\
         <defs>\n{patterns}</defs>\n"
    )
}
