//! The names of other tools, and what does the same here. Data alone.

use Here::{Flag, Nothing, OfDemo};

/// The meaning here of a name of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    /// A flag, as the help shows it.
    Flag(&'static str),
    /// A flag of the demo, and why the bench has none.
    OfDemo(&'static str, &'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// The names of other tools. Those of several letters stand in lower case and without hyphens, because tools write
/// one name in many ways: `--will-payload`, `--willPayload`, `--will_payload`.
pub(super) const FOREIGN: [(&[&str], Here); 36] = [
    (
        &[
            "-h",
            "-e",
            "-L",
            "host",
            "hostname",
            "server",
            "broker",
            "address",
            "url",
            "uri",
            "brokerurl",
            "brokerhost",
            "serveruri",
        ],
        Flag("--endpoint HOST[:PORT]"),
    ),
    (&["-p", "brokerport", "serverport"], Flag("--port PORT")),
    (
        &[
            "-i",
            "-id",
            "-I",
            "-ip",
            "id",
            "identifier",
            "idprefix",
            "identifierprefix",
            "client",
            "thingname",
        ],
        Flag("--client-id ID"),
    ),
    (&["-u", "user", "login"], Flag("--username NAME")),
    (
        &["-P", "-pw", "pw", "pwd", "pass", "passwd"],
        Flag("--password-file FILE, or MQTT_PASSWORD"),
    ),
    (
        &[
            "ca",
            "capath",
            "cacert",
            "cacerts",
            "cacertificate",
            "rootcafile",
            "truststore",
        ],
        Flag("--ca-file FILE"),
    ),
    (
        &[
            "certfile",
            "clientcert",
            "certificate",
            "clientcertificate",
            "tlscert",
            "crt",
        ],
        Flag("--cert FILE"),
    ),
    (
        &["keyfile", "privatekey", "clientkey", "tlskey"],
        Flag("--key FILE"),
    ),
    (&["p12", "pfx", "keystore"], Flag("--pkcs12 FILE")),
    (&["tlsalpn", "alpnprotocols"], Flag("--alpn NAME")),
    (&["servername", "sni"], Flag("--tls-server-name NAME")),
    (
        &["-t", "-T", "topicname", "topicfilter", "filter"],
        Flag(
            "--topic TOPIC with the commands pub and check, and else --topic-prefix PREFIX, below which topics of its own are made",
        ),
    ),
    (&["qoslevel", "qualityofservice"], Flag("--qos LEVEL")),
    (&["-k"], Flag("--keep-alive 60s, or --key FILE")),
    (
        &["heartbeat", "pinginterval"],
        Flag("--keep-alive DURATION"),
    ),
    (&["clean", "cleanstart"], Flag("--clean-session")),
    (
        &[
            "disablecleansession",
            "noclean",
            "nocleanstart",
            "nocleansession",
            "persistent",
        ],
        Flag("--clean-session=false"),
    ),
    (&["-c"], Flag("--clean-session=false, or --cert FILE")),
    (
        &[
            "-C",
            "-n",
            "count",
            "msgcount",
            "messagecount",
            "repeat",
            "limit",
        ],
        Flag("--publish-count N, and with the command bench --messages N"),
    ),
    (
        &["-im", "interval", "delay", "repeatdelay", "messageinterval"],
        OfDemo(
            "--publish-delay DURATION",
            "a bench publishes without pauses",
        ),
    ),
    (
        &[
            "-m",
            "-f",
            "-l",
            "-s",
            "msg",
            "payload",
            "payloadfile",
            "messagefile",
            "stdinline",
            "stdinfile",
        ],
        Flag("--message, --file or --lines, all with the command pub"),
    ),
    (&["-r", "retained"], Flag("--retain with the command pub")),
    (&["size", "messagesize"], Flag("--payload-size SIZE")),
    (
        &["willmessage", "willpayload"],
        Flag("--will-payload-file FILE"),
    ),
    (
        &["-W", "timeout", "responsetimeout"],
        Flag("--ack-timeout DURATION"),
    ),
    (&["connectiontimeout"], Flag("--connect-timeout DURATION")),
    (
        &["-rp", "reconnectperiod", "reconnectdelay", "retrydelay"],
        Flag("--retry-base DURATION"),
    ),
    (
        &[
            "maximumreconnecttimes",
            "maxreconnects",
            "maxretries",
            "retries",
        ],
        Flag("--retry-attempts N"),
    ),
    (&["-d", "debug", "loglevel"], Flag("-v")),
    (&["json", "format", "outputformat"], Flag("--output json")),
    (
        &[
            "insecure",
            "tlsinsecure",
            "skipverify",
            "noverify",
            "skipcertverify",
        ],
        Nothing(
            "the broker's certificate is always verified; --tls-server-name names another name in it",
        ),
    ),
    (
        &[
            "tls",
            "ssl",
            "secure",
            "usetls",
            "usessl",
            "tlsuseoscerts",
            "protocol",
        ],
        Nothing("TLS is on unless the endpoint says mqtt://"),
    ),
    (
        &[
            "tlsversion",
            "sslversion",
            "tlsprotocol",
            "minversion",
            "minprotocolversion",
        ],
        Nothing("TLS 1.2 or 1.3 is used, as the broker has it"),
    ),
    (
        &["cipher", "ciphers", "ciphersuites", "psk", "pskidentity"],
        Nothing("the system's OpenSSL chooses the ciphers, and a broker has to have a certificate"),
    ),
    (
        &["-V", "mqttversion", "protocolversion"],
        Nothing("the program speaks MQTT 3.1.1"),
    ),
    (
        &[
            "-w",
            "websocket",
            "usewebsocket",
            "path",
            "proxy",
            "proxyhost",
            "proxyport",
        ],
        Nothing("the program has nothing like it"),
    ),
];
