//! PEM files of several blocks, whole and damaged.

use super::*;

/// A block that is passed over would show only after connecting, as a CA or a certificate that is missing.
#[test]
fn a_damaged_block_beside_a_good_one_is_named() {
    let lab = Lab::new();
    let (good, key) = (lab.text("ca.pem"), lab.text("client.key"));
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} CERTIFICATE-----"));
    let body = good
        .trim()
        .trim_start_matches(&begin)
        .trim_end_matches(&end);
    let half = &body[..body.len() / 2];
    let damaged = [
        ("no end", format!("{begin}{body}"), "is cut off"),
        ("cut in the middle", format!("{begin}{half}"), "is cut off"),
        (
            "cut, and an end",
            format!("{begin}{half}{end}"),
            "is damaged",
        ),
        ("only its begin", begin.clone(), "is cut off"),
        (
            "cut within its end",
            format!("{begin}{body}-----END CERTIF"),
            "is damaged",
        ),
        (
            "no begin",
            format!("{}{end}", &body[1..]),
            "has no line -----BEGIN",
        ),
        ("only its end", end.clone(), "has no line -----BEGIN"),
        (
            "bad base64",
            format!("{begin}{}{end}", body.replacen('M', "*", 1)),
            "is damaged",
        ),
        (
            "a letter of another alphabet",
            format!("{begin}{}{end}", body.replacen('M', "М", 1)),
            "is damaged",
        ),
        (
            "one letter less",
            format!("{begin}{}{end}", body.replacen('M', "", 1)),
            "is damaged",
        ),
        ("nothing in it", format!("{begin}\n{end}"), "is damaged"),
        (
            "another end",
            format!("{begin}{body}-----END PRIVATE KEY-----"),
            "is damaged",
        ),
        (
            "an unknown label",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "CERTIFCATE"),
            "is no certificate",
        ),
        (
            "four dashes before begin",
            format!("----BEGIN CERTIFICATE-----{body}{end}"),
            "is damaged",
        ),
        (
            "four dashes after begin",
            format!("-----BEGIN CERTIFICATE----{body}{end}"),
            "is damaged",
        ),
        (
            "four dashes before end",
            format!("{begin}{body}----END CERTIFICATE-----"),
            "is cut off",
        ),
        (
            "four dashes after end",
            format!("{begin}{body}-----END CERTIFICATE----"),
            "is damaged",
        ),
        (
            "other dashes",
            format!("{begin}{body}{end}").replace("-----", "\u{2014}"),
            "is damaged",
        ),
        (
            "small letters",
            format!("{begin}{body}{end}").replace("BEGIN", "begin"),
            "is damaged",
        ),
        (
            "a request",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "CERTIFICATE REQUEST"),
            "signing request",
        ),
        (
            "a PKCS#7 bundle",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "PKCS7"),
            "PKCS#7",
        ),
    ];
    for (what, block, phrase) in damaged {
        // Behind a good one, and between two.
        for (file, text) in [
            ("behind.pem", format!("{good}{block}\n")),
            ("between.pem", format!("{good}\n{block}\n{good}")),
            (
                "crlf.pem",
                format!("{good}\n{block}\n{good}").replace('\n', "\r\n"),
            ),
        ] {
            lab.write(file, &text);
            let as_ca = lab.trusting_only(file);
            for (options, option) in [(lab.with(file, "client.key"), "`cert`"), (as_ca, "`ca`")] {
                let text = refusal(&options).to_string();
                eprintln!("{what}, {file}: {text}");
                assert!(
                    text.contains(phrase) && text.contains(" 2 "),
                    "{what}, {file}: {text}"
                );
                assert!(
                    text.contains(file) && text.contains(option),
                    "{what}, {file}: {text}"
                );
            }
        }
    }
    // Beside the key as well, and none of its lines may be quoted.
    let secret: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let label = secret[0];
    for (what, text, phrase) in [
        (
            "a certificate cut off behind the key",
            format!("{key}{begin}{half}"),
            "block 2 is cut off",
        ),
        (
            "the key cut off behind a certificate",
            format!("{good}{}", &key[..key.len() / 2]),
            "block 2 is cut off",
        ),
        (
            "the key without its begin",
            format!("{good}{}", key.replace("-----BEGIN PRIVATE KEY-----", "")),
            "block 2 has no line -----BEGIN",
        ),
        (
            "the key on the line of its begin",
            format!("{good}-----BEGIN {label}-----\n{label}\n-----END"),
            "block 2 is",
        ),
        (
            "the key with another end",
            format!("{good}{}", key.replace("END PRIVATE KEY", label)),
            "block 2 is",
        ),
    ] {
        lab.write("two.key", &text);
        let error = refusal(&lab.with("client.pem", "two.key")).to_string();
        eprintln!("{what}: {error}");
        assert!(error.contains(phrase), "{what}: {error}");
        assert!(
            !secret.iter().any(|line| error.contains(line)),
            "{what}: {error}"
        );
    }
}

/// People and tools write all this around the blocks.
#[test]
fn other_text_around_the_blocks_is_allowed() {
    let lab = Lab::new();
    let (ca, client, key) = (
        lab.text("ca.pem"),
        lab.text("client.pem"),
        lab.text("client.key"),
    );
    for (what, text) in [
        (
            "comments",
            format!(
                "# first\n{ca}\n# second: -----BEGIN CERTIFICATE-----\n # -----END CERTIFICATE-----\n{client}\n# -----\n"
            ),
        ),
        (
            "lines of dashes",
            format!("-----\nlab CA\n=====\n{ca}----------\n---- BEGIN here\n--\n{ca}"),
        ),
        (
            "as openssl prints them",
            format!("subject=CN = x\nissuer=CN = y\n{ca}---\nServer certificate\n{ca}"),
        ),
        ("no line break between", format!("{}{}", ca.trim(), client)),
        ("blanks behind the lines", ca.replace('\n', "  \n")),
        ("CRLF", ca.replace('\n', "\r\n")),
        ("CR", ca.replace('\n', "\r")),
        ("no line break at the end", ca.trim().to_owned()),
        ("the key behind", format!("{ca}{key}")),
        ("Latin-1", format!("# Z\u{fffd}rich\n{ca}")),
    ] {
        let bytes: Vec<u8> = match what {
            "Latin-1" => text
                .chars()
                .map(|c| if c.is_ascii() { c as u8 } else { 0xfc })
                .collect(),
            _ => text.into_bytes(),
        };
        lab.write("around.pem", bytes);
        let options = lab.trusting_only("around.pem");
        if let Err(error) = connector(&options) {
            panic!("{what}: {error}");
        }
    }
}
