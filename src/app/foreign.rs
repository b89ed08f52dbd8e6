//! Names that are nearly those of a setting, and the names that other tools have for one.
//!
//! One table for flags and variables: mosquitto_pub and mosquitto_sub, MQTTX, HiveMQ's mqtt, the samples of AWS IoT,
//! and names that people guess. Pure; the main thread uses it.

mod table;

use std::ffi::OsString;

use super::settings::{Task, flags, keys, now_called, variable};
use super::verbs::{Beginning, Verb};
use table::FOREIGN;
use table::Here::{self, Flag, Nothing, OfDemo};

/// Stands behind a flag of this program that takes no value here.
pub(super) const WITH_VALUE: &str = " with a value";

/// Names that only flags have here, and what to give.
const FLAGS_ALONE: [(&[&str], &str); 3] = [
    (
        &[
            "config",
            "configfile",
            "configpath",
            "loadoptions",
            "optionsfile",
        ],
        "--config FILE",
    ),
    (
        &["verbose", "verbosity", "debug", "loglevel"],
        "-v, or set RUST_LOG",
    ),
    (&["quiet", "silent"], "-q, or set RUST_LOG"),
];

/// Names what to give in place of a variable, or of a key in a file, that only a flag can be here. `name` is the key, or the
/// part of the variable behind `MQTT_`.
pub(super) fn flag_alone(name: &str) -> Option<&'static str> {
    let name = squeezed(name);
    let row = FLAGS_ALONE
        .iter()
        .find(|(names, _)| names.contains(&name.as_str()));
    row.map(|(_, flag)| *flag)
}

/// Whether a name is that of a flag here, perhaps a second or a former one.
fn is_flag(name: &str) -> bool {
    let alone = ["config", "verbose", "quiet", "help", "version"];
    let mut settings = flags();
    settings.build();
    let mut settings = settings.get_arguments();
    alone.contains(&name)
        || settings.any(|arg| {
            let others = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name) || others.contains(&name)
        })
}

/// A name in lower case and without hyphens.
fn squeezed(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '-' | '_'));
    letters.collect::<String>().to_ascii_lowercase()
}

/// The name, and the rest of it behind a word that some put in front of all names.
fn with_and_without_prefix(name: &str) -> impl Iterator<Item = &str> {
    let prefixes = ["mqtt", "tls", "ssl"].into_iter();
    let rests = prefixes.filter_map(move |prefix| name.strip_prefix(prefix));
    std::iter::once(name).chain(rests)
}

/// The setting whose name is this one but for hyphens, capitals and a word in front.
fn spelt_otherwise(name: &str) -> Option<String> {
    let name = squeezed(name);
    let spelt = |name: &str| keys().into_iter().find(|key| squeezed(key) == name);
    with_and_without_prefix(&name).find_map(spelt)
}

/// The meaning of a flag of another tool; `name` has its hyphens.
fn of_flag(name: &str) -> Option<Here> {
    let known = |name: &str| {
        let mut rows = FOREIGN.iter();
        rows.find(|(names, _)| names.contains(&name))
            .map(|(_, here)| *here)
    };
    match name.strip_prefix("--") {
        Some(long) => with_and_without_prefix(&squeezed(long)).find_map(known),
        None => known(name),
    }
}

/// An argument that is a flag of another tool, without its value, and what it stands for.
fn of_argument(argument: &str, task: Task) -> Option<(String, String)> {
    let name = argument.split(['=', ':']).next()?;
    let long = name.trim_start_matches('-');
    let is_own = name.starts_with("--") && is_flag(long);
    // With one hyphen these two are read as -h and -v.
    if long.len() == name.len() || is_own || ["-help", "-version"].contains(&name) {
        return None;
    }
    // A password among the arguments is seen by everybody on the machine. One that is glued to the flag is none of
    // its name.
    let secrets = ["password", "pkcs12-password"];
    if let Some(secret) = secrets.into_iter().find(|own| long.starts_with(own)) {
        let name = &name[..name.len() - long.len() + secret.len()];
        let variable = variable(secret);
        let advice = format!("give the password with --{secret}-file, or in {variable}");
        return Some((name.to_owned(), advice));
    }
    if let Some(here) = of_flag(name).or_else(|| of_flag(&format!("--{long}"))) {
        return Some((name.to_owned(), advice(name, here, task)));
    }
    if let Some(key) = spelt_otherwise(long) {
        return Some((name.to_owned(), format!("for {name} use --{key}")));
    }
    if let Some(flag) = flag_alone(long) {
        return Some((name.to_owned(), format!("for {name} use {flag}")));
    }
    // The value follows at once, as in -p1883.
    let short: String = name.chars().take(2).collect();
    let glued = name.is_ascii() && name.len() > 2 && short != "--";
    let here = of_flag(&short).filter(|_| glued)?;
    Some((short.clone(), advice(&short, here, task)))
}

fn advice(name: &str, here: Here, task: Task) -> String {
    match (here, task) {
        (Flag(flag), _) | (OfDemo(flag, _), Task::Demo) => format!("for {name} use {flag}"),
        (OfDemo(..), Task::Check | Task::Pub | Task::Sub) => {
            format!(
                "leave {name} out: the command {} has nothing like it",
                task.word()
            )
        }
        (Nothing(reason), _) | (OfDemo(_, reason), Task::Bench) => {
            format!("leave {name} out: {reason}")
        }
    }
}

/// The flags of other tools on a command line, the program's name at its beginning: each, without its value,
/// with what to do. `-h` and `-V` are flags of this program unless a value follows.
pub(super) fn on_command_line(command_line: &[OsString]) -> Vec<(String, String)> {
    let rest = command_line.iter().skip(1);
    let mut rest = rest
        .map(|word| word.to_str().unwrap_or_default())
        .peekable();
    let mut words = Vec::new();
    while let Some(word) = rest.next_if(|word| *word != "--") {
        words.push(word);
        if word == "--message" {
            // Its text may look like a flag.
            rest.next();
        }
    }
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let value = words.get(at + 1).filter(|next| !next.starts_with('-'));
        if let ("-q", Some(level @ ("0" | "1" | "2"))) = (*word, value.copied()) {
            found.push((format!("-q {level}"), format!("for it use --qos {level}")));
            continue;
        }
        let letters = word.strip_prefix('-').unwrap_or_default();
        let own = !letters.is_empty() && letters.chars().all(|c| "vqhV".contains(c));
        let takes_value =
            matches!(*word, "-h" | "-V") && value.is_some_and(|next| Verb::of_word(next).is_none());
        if own && !takes_value {
            continue;
        }
        if let Some((name, advice)) = of_argument(word, Beginning::of(command_line).flags_of()) {
            let name = match name.as_str() {
                "-h" | "-V" => name + WITH_VALUE,
                _ => name,
            };
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, advice));
            }
        }
    }
    found
}

/// The setting that a variable or a key of a file seems to mean, if one is near. `name` is the key, or the part of the variable behind `MQTT_`.
pub(super) fn meant_by(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    match name.as_str() {
        // Directly in the environment.
        "password" | "pkcs12-password" => return None,
        _ => {}
    }
    if now_called(&name) != name {
        return None;
    }
    if let Some(key) = spelt_otherwise(&name) {
        return Some(key);
    }
    match of_flag(&format!("--{name}")) {
        Some(Flag(flag) | OfDemo(flag, _)) => {
            let key = flag.strip_prefix("--")?.split([' ', '=', ',']).next()?;
            Some(key.to_owned())
        }
        Some(Nothing(_)) => None,
        // Many short names are near to each other.
        None if name.len() < 5 => None,
        None => nearest(&name),
    }
}

/// The setting whose name is nearest to this one, if it is near.
fn nearest(name: &str) -> Option<String> {
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
    fn each_flag_of_the_table_exists_and_no_name_is_one_of_ours() {
        let keys = keys();
        for (names, here) in FOREIGN {
            for name in names {
                let long = !name.starts_with('-');
                assert!(!long || *name == squeezed(name), "{name}");
                assert!(!keys.iter().any(|key| squeezed(key) == *name), "{name}");
                let rows = FOREIGN.iter().filter(|(names, _)| names.contains(name));
                assert_eq!(rows.count(), 1, "{name}");
            }
            if let Flag(flag) | OfDemo(flag, _) = here {
                let own = flag.strip_prefix("--").unwrap_or("output");
                let key = own.split([' ', '=', ',']).next().unwrap();
                assert!(keys.iter().any(|known| known == key), "{flag}");
            }
        }
    }

    #[test]
    fn flags_of_other_tools_are_found_without_their_values() {
        let found = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let found = on_command_line(&words);
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        // mosquitto_pub, MQTTX, mqtt of HiveMQ, the samples of AWS IoT.
        for (line, names) in [
            (
                "program -h host -p 8883 -t a/b -m hi -q 1 -u me -P hunter2 --cafile ca -i id -k 60 -d",
                &[
                    "-h with a value",
                    "-p",
                    "-t",
                    "-m",
                    "-q 1",
                    "-u",
                    "-P",
                    "--cafile",
                    "-i",
                    "-k",
                    "-d",
                ][..],
            ),
            (
                "program --host=h --pw hunter2 --id x --capath /c --insecure --tls-alpn a --will-payload bye",
                &[
                    "--host",
                    "--pw",
                    "--id",
                    "--capath",
                    "--insecure",
                    "--tls-alpn",
                    "--will-payload",
                ],
            ),
            (
                "program pub -h h -p 1 --ca c -im 10 -rp 1 --no-clean --keepalive 3",
                &[
                    "-h with a value",
                    "-p",
                    "--ca",
                    "-im",
                    "-rp",
                    "--no-clean",
                    "--keepalive",
                ],
            ),
            (
                "program pub -pw:env x --identifier i --no-cleanStart --mqttVersion 3",
                &["-pw", "--identifier", "--no-cleanStart", "--mqttVersion"],
            ),
            (
                "program --endpoint e --ca_file a --cert c --key k --client_id x --count 3 --topic t",
                &["--ca_file", "--client_id"],
            ),
            (
                "program -p1883 -Phunter2 -hhost",
                &["-p", "-P", "-h with a value"],
            ),
            ("program -V mqttv5 -V", &["-V with a value"]),
            ("program -h", &[]),
            ("program bench -h", &[]),
            ("program -h bench", &[]),
            ("program -vv -qh -q --qos 1 -h --local", &[]),
            ("program --qos 1 -- -p 3", &[]),
        ] {
            assert_eq!(found(line), names, "{line}");
        }
    }

    /// All flags of these tools but those for help and version, and those that are the same here.
    #[test]
    fn each_flag_of_the_usual_tools_is_known() {
        let tools = [
            // mosquitto_pub, mosquitto_sub and mosquitto_rr 2.1.
            "-A -C -D -E -F -I -L -M -N -P -R -T -U -W -c -d -e -f -h -i -k -l -m -n -o -p -r -s -t -u -w -x \
             --cafile --capath --ciphers --insecure --keyform --nodelay --no-tls --pretty --proxy --psk \
             --psk-identity --random-filter --remove-retained --repeat --repeat-delay --retained-only \
             --tls-alpn --tls-engine --tls-engine-kpass-sha1 --tls-keylog --tls-use-os-certs --tls-version \
             --unix --will-payload --ws",
            // MQTTX: conn, pub, sub and bench.
            "-h -p -i -k -u -P -l -t -m -s -im -L -c -rp -up -se -rt -cd -ct -pf -ta -si -nl -rap -rh -wh -Wt -Wm -Wq \
             -Wr -Wd -Wpf -Wct -Wrt -Wcd -Wup --mqtt-version --hostname --no-clean --keepalive --protocol --path \
             --ws-headers --ca --insecure --reconnect-period --maximum-reconnect-times --user-properties \
             --will-message --will-delay-interval --will-payload-format-indicator --save-options --load-options \
             --file-write --file-save --debug --session-expiry-interval --rcv-max --maximum-packet-size \
             --topic-alias-maximum --req-response-info --no-req-problem-info --count --interval --limit --split \
             --retain --dup --message --message-interval --output-mode --stdin --format",
            // mqtt of HiveMQ: pub, sub and shell.
            "-h -p -i -ip -u -pw -pw:env -pw:file -t -m -m:file -r -k -c -se -Wt -Wd -Wq -Wr -Wm -s -V5 -ws -ws:path -d \
             -J -T -of -b64 -up --host --identifier --identifierPrefix --user --password --topicName --message --retain \
             --keepAlive --no-cleanStart --cleanStart --sessionExpiryInterval --willDelayInterval --willMessage \
             --willRetain --secure --capath --ciphers --tls-version --keypw --keystore --keystore-password \
             --ks-private-key-password --truststore --mqttVersion --jsonOutput --outputToFile --base64 --rcvMax --sendMax \
             --maxPacketSize --sendMaxPacketSize --topicAliasMax --sendTopicAliasMax --no-reqProblemInfo \
             --reqResponseInfo",
            // The samples of the device SDKs of AWS IoT for Python (both versions) and C++.
            "-e -r -c -k -p -w -id -t -m -M --rootCA --clientId --thingName --shadowClientId --ca_file --client_id \
             --message --count --port_override --signing_region --proxy_host --proxy_port --verbosity --is_ci --thing_name \
             --use_websocket --pkcs11_lib --pin --token_label --slot_id --key_label --pkcs12_file \
             --custom_auth_username --custom_auth_authorizer_name --custom_auth_authorizer_signature \
             --custom_auth_password --custom_auth_token_key_name",
            // The samples of Paho for Python and C.
            "-H -P -D -F -k --host --cacerts --use-tls --tls-version --insecure --keepalive --disable-clean-session \
             --connection --qoslevel",
        ];
        let flags = tools.into_iter().flat_map(str::split_whitespace);
        let is_own = |flag: &str| flag.strip_prefix("--").is_some_and(is_flag);
        let unknown = flags.filter(|flag| of_argument(flag, Task::Demo).is_none() && !is_own(flag));
        assert_eq!(unknown.collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn second_and_former_names_of_flags_are_no_foreign_ones() {
        let line = "program --root-ca a --response-queue 3 --config c --verbose --rootCA b";
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = on_command_line(&line);
        let advice = (
            "--rootCA".to_owned(),
            "for --rootCA use --ca-file FILE".to_owned(),
        );
        assert_eq!(found, [advice]);
    }

    #[test]
    fn a_variable_that_is_nearly_a_setting_is_known() {
        for (name, key) in [
            ("PUBLISHCOUNT", Some("publish-count")),
            ("CLIENTID", Some("client-id")),
            ("HOST", Some("endpoint")),
            ("ENDPIONT", Some("endpoint")),
            ("USER", Some("username")),
            ("PASS", Some("password-file")),
            ("CAFILE", Some("ca-file")),
            ("CA_CERT", Some("ca-file")),
            ("RETRY_ATTEMPT", Some("retry-attempts")),
            ("TOPIC", Some("topic")),
            ("ROOT_CA", Some("ca-file")),
            ("QOS", Some("qos")),
            ("PASSWORD", None),
            ("PKCS12_PASSWORD", None),
            ("TLS", None),
            ("NODE", None),
            ("COLOUR", None),
            // Kubernetes sets these beside a Service named mqtt.
            ("SERVICE_HOST", None),
            ("SERVICE_PORT", None),
            ("SERVICE_PORT_MQTTS", None),
            ("PORT_1883_TCP", None),
            ("PORT_1883_TCP_PROTO", None),
            ("PORT_1883_TCP_PORT", None),
            ("PORT_1883_TCP_ADDR", None),
        ] {
            assert_eq!(meant_by(name).as_deref(), key, "{name}");
        }
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("qos", "qos"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
