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
pub(super) const FOREIGN: [(&[&str], Here); 74] = [
    (
        &[
            "-h",
            "-H",
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
            "connection",
            "brokeraddress",
            "endpointurl",
        ],
        Flag("--endpoint HOST[:PORT]"),
    ),
    (
        &["-p", "brokerport", "serverport", "portoverride"],
        Flag("--port PORT"),
    ),
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
            "clientidprefix",
            "shadowclientid",
            "deviceid",
        ],
        Flag("--client-id ID"),
    ),
    (
        &["-u", "user", "login", "customauthusername"],
        Flag("--username NAME"),
    ),
    (
        &[
            "-P",
            "-pw",
            "pw",
            "pwd",
            "pass",
            "passwd",
            "customauthpassword",
        ],
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
            "rootca",
            "cabundle",
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
    (
        &["p12", "pfx", "keystore", "pkcs12file"],
        Flag("--pkcs12 FILE"),
    ),
    (
        &["keystorepassword", "kspassword"],
        Flag("--pkcs12-password-file FILE, or MQTT_PKCS12_PASSWORD"),
    ),
    (
        &["keypw", "keypassword", "ksprivatekeypassword"],
        Nothing("a key is read without a pass phrase; openssl pkey takes it off"),
    ),
    (
        &[
            "customauthauthorizername",
            "customauthauthorizersignature",
            "customauthtokenkeyname",
            "customauthtokenvalue",
        ],
        Flag(
            "--username 'NAME?x-amz-customauthorizer-name=AUTHORIZER', and on port 443 --alpn mqtt",
        ),
    ),
    (
        &[
            "pkcs11lib",
            "pin",
            "tokenlabel",
            "slotid",
            "keylabel",
            "tlsengine",
            "tlsenginekpasssha1",
            "keyform",
        ],
        Nothing("the key comes from a file, and from no device"),
    ),
    (&["tlsalpn", "alpnprotocols"], Flag("--alpn NAME")),
    (&["servername", "sni"], Flag("--tls-server-name NAME")),
    (
        &["-t", "-T", "topicname", "topicfilter"],
        Flag(
            "--topic TOPIC with the commands pub and check, a word of its own with sub, and else --topic-prefix PREFIX, below which topics are made",
        ),
    ),
    (&["qoslevel", "qualityofservice"], Flag("--qos LEVEL")),
    (&["-Wt"], Flag("--will-topic TOPIC")),
    (&["-Wq"], Flag("--will-qos LEVEL")),
    (&["-Wr"], Flag("--will-retain")),
    (&["-k"], Flag("--keep-alive 60s, or --key FILE")),
    (
        &[
            "heartbeat",
            "pinginterval",
            "keepaliveinterval",
            "keepalivesecs",
        ],
        Flag("--keep-alive DURATION"),
    ),
    (
        &["clean", "cleanstart", "cleanconnect"],
        Flag("--clean-session"),
    ),
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
        &["-C", "-n", "msgcount", "messagecount", "repeat", "limit"],
        Flag("--count N with the command sub, --messages N with bench, and else --publish-count N"),
    ),
    (
        &["-im", "interval", "delay", "repeatdelay", "messageinterval"],
        OfDemo(
            "--publish-delay DURATION",
            "a bench publishes without pauses",
        ),
    ),
    (
        &["-m", "msg", "payload"],
        Flag("--message TEXT with the command pub"),
    ),
    (
        &["-f", "payloadfile", "messagefile"],
        Flag("--file FILE with the command pub"),
    ),
    (&["-l", "stdinline"], Flag("--lines with the command pub")),
    (
        &["-s", "stdin", "stdinfile"],
        Flag("the command pub without --message"),
    ),
    (
        &["-F"],
        Flag("--format text, jsonl or raw with the command sub"),
    ),
    (&["-r", "retained"], Flag("--retain with the command pub")),
    (&["size", "messagesize"], Flag("--payload-size SIZE")),
    (
        &["-Wm", "willmessage", "willpayload"],
        Flag("--will-payload-file FILE"),
    ),
    (
        &["-W", "timeout", "responsetimeout"],
        Flag("--ack-timeout DURATION, and with the command sub --within DURATION"),
    ),
    (&["connectiontimeout"], Flag("--connect-timeout DURATION")),
    (
        &[
            "-rp",
            "reconnectperiod",
            "reconnectdelay",
            "retrydelay",
            "minreconnectdelay",
            "reconnectmindelay",
        ],
        Flag("--retry-base DURATION"),
    ),
    (
        &["maxreconnectdelay", "reconnectmaxdelay", "maxretrydelay"],
        Flag("--retry-max DURATION"),
    ),
    (
        &["reconnect", "autoreconnect", "automaticreconnect"],
        Flag("--retry-for DURATION"),
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
    (
        &["-J", "json", "outputformat", "jsonoutput", "outputmode"],
        Flag("--output json, or with the command sub --format jsonl"),
    ),
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
            "tls", "ssl", "secure", "usetls", "usessl", "notls", "protocol",
        ],
        Nothing("TLS is on unless the endpoint says mqtt://"),
    ),
    (
        &["tlsuseoscerts"],
        Nothing("the system's certificate authorities are trusted unless there is a --ca-file"),
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
        Flag("--mqtt VERSION, 3.1.1 or 5"),
    ),
    (
        &[
            "-w",
            "-ws",
            "-wh",
            "ws",
            "wsheaders",
            "wspath",
            "websocket",
            "websockets",
            "usewebsocket",
            "path",
            "signingregion",
        ],
        Nothing("the program speaks MQTT over TLS or TCP, and not over WebSocket"),
    ),
    (
        &["proxy", "proxyhost", "proxyport", "unix", "-S", "srv"],
        Nothing("the program connects to the endpoint itself, over TCP"),
    ),
    (
        &["-A", "bind", "bindaddress", "ifaddr", "interface"],
        Nothing("the system chooses the local address"),
    ),
    (
        &["nodelay", "tcpnodelay"],
        Nothing("small packets leave at once anyway"),
    ),
    (
        &["region", "awsregion"],
        Nothing("the endpoint has the region in its name"),
    ),
    (
        &["-M", "inflight", "rcvmax", "receivemaximum", "sendmax"],
        Flag("--max-inflight N, and with the command bench --window N"),
    ),
    (
        &["maxpacket", "maximumpacketsize", "sendmaxpacketsize"],
        Flag("--max-packet-size SIZE"),
    ),
    (
        &["queuesize", "maxqueue", "requestchannelcapacity"],
        OfDemo("--command-queue N", "it follows from --window"),
    ),
    (
        &["rate", "maxrate", "ratelimit", "messagespersecond"],
        Flag("--message-rate 100/s"),
    ),
    (
        &[
            "clients",
            "connections",
            "publishers",
            "workers",
            "concurrency",
        ],
        Flag("--threads N with the command bench; they share one connection"),
    ),
    (
        &["-E"],
        Nothing("the command check connects, subscribes and ends"),
    ),
    (
        &["saveoptions"],
        Nothing("the command settings prints them, for --config"),
    ),
    (
        &["-D", "property"],
        Flag(
            "--user-property NAME=VALUE, --content-type, --message-expiry or --response-topic with the command pub, and --session-expiry",
        ),
    ),
    (
        &["-up", "userproperties"],
        Flag("--user-property NAME=VALUE with the command pub"),
    ),
    (&["-ct"], Flag("--content-type TYPE with the command pub")),
    (
        &["-rt"],
        Flag("--response-topic TOPIC with the command pub"),
    ),
    (
        &["messageexpiryinterval"],
        Flag("--message-expiry DURATION with the command pub"),
    ),
    (
        &["-x", "-se", "sessionexpiryinterval"],
        Flag("--session-expiry DURATION"),
    ),
    (
        &[
            "-ta",
            "topicalias",
            "topicaliasmax",
            "topicaliasmaximum",
            "sendtopicaliasmax",
        ],
        Flag("--topic-aliases N"),
    ),
    (&["-nl"], Flag("--no-local with the command sub")),
    (
        &["-rap"],
        Flag("--retain-as-published with the command sub"),
    ),
    (
        &["-rh"],
        Flag("--retain-handling WORD with the command sub"),
    ),
    (&["-Wd", "willdelayinterval"], Flag("--will-delay DURATION")),
    (
        &[
            "-cd",
            "-pf",
            "-si",
            "-We",
            "-Wct",
            "-Wcd",
            "-Wrt",
            "-Wpf",
            "-Wup",
            "correlationdata",
            "payloadformatindicator",
            "subscriptionidentifier",
            "reqresponseinfo",
            "noreqproblem",
            "noreqprobleminfo",
            "willcontenttype",
            "willcorrelationdata",
            "willresponsetopic",
            "willmessageexpiryinterval",
            "willpayloadformatindicator",
            "willuserproperties",
        ],
        Nothing("the library can set this property of MQTT 5, and the program does not"),
    ),
    (
        &[
            "-R",
            "-U",
            "-N",
            "-o",
            "-of",
            "-b64",
            "retainedonly",
            "removeretained",
            "randomfilter",
            "unsubscribe",
            "pretty",
            "dup",
            "split",
            "outputtofile",
            "filewrite",
            "filesave",
            "base64",
            "tlskeylog",
            "isci",
        ],
        Nothing("the program has nothing like it"),
    ),
];
