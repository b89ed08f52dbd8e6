//! Every form of certificate and key that is taken makes a handshake in which both sides verify.

use pkcs8::PrivateKeyInfo;

use super::*;

#[test]
fn every_form_of_key_makes_a_mutual_handshake() {
    let lab = Lab::new();
    // An RSA key, and a curve key that names no curve but follows a block of parameters.
    lab.openssl("genrsa -out rsa.key 2048");
    lab.openssl("rsa -in rsa.key -traditional -out rsa-pkcs1.key");
    let rsa = KeyPair::from_pem(&lab.text("rsa.key")).unwrap();
    lab.write("rsa.pem", lab.sign(params("rsa client", &[]), &rsa));
    lab.openssl("ec -in client.key -out sec1.key");
    lab.openssl("ecparam -name prime256v1 -out curve.pem");

    let (pkcs8, pkcs1, sec1) = (
        lab.text("client.key"),
        lab.text("rsa-pkcs1.key"),
        lab.text("sec1.key"),
    );
    assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert!(sec1.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    // In PKCS#8 the curve stands beside the key.
    let curve_apart = {
        let block = pem::parse(&pkcs8).unwrap();
        let key = PrivateKeyInfo::try_from(block.contents()).unwrap();
        let block = pem::encode(&Pem::new("EC PRIVATE KEY", key.private_key));
        lab.text("curve.pem") + &block
    };
    let forms = [
        ("client.pem", "PKCS#8", pkcs8.clone()),
        ("client.pem", "blank lines first", format!("\n \r\n{pkcs8}")),
        ("client.pem", "byte order mark", format!("\u{feff}{pkcs8}")),
        ("client.pem", "CRLF", pkcs8.replace('\n', "\r\n")),
        (
            "client.pem",
            "bag attributes",
            format!("Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n{pkcs8}"),
        ),
        (
            "client.pem",
            "certificate in the same file",
            lab.text("client.pem") + &pkcs8,
        ),
        ("client.pem", "SEC1", sec1.clone()),
        (
            "client.pem",
            "SEC1 after its parameters",
            lab.text("curve.pem") + &sec1,
        ),
        ("client.pem", "SEC1 with the curve apart", curve_apart),
        ("rsa.pem", "PKCS#8 RSA", lab.text("rsa.key")),
        ("rsa.pem", "PKCS#1", pkcs1.clone()),
        ("rsa.pem", "PKCS#1, CRLF", pkcs1.replace('\n', "\r\n")),
    ];
    let broker = lab.strict_broker("");
    for (cert, form, key) in forms {
        eprintln!("{form}");
        lab.write("form.key", key);
        talk(&lab.with(cert, "form.key"), broker.address).expect(form);
    }
    // A certificate may have a byte order mark and other text as well.
    lab.write(
        "bom.pem",
        format!("\u{feff}subject=client\r\n{}", lab.text("client.pem")),
    );
    talk(&lab.with("bom.pem", "client.key"), broker.address).unwrap();
    // PKCS#12 works too, also with encryption that is old but supported.
    let export = "pkcs12 -export -in client.pem -inkey client.key -passout pass:secret -out";
    lab.openssl(&format!("{export} client.p12"));
    lab.openssl(&format!(
        "{export} 3des.p12 -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES"
    ));
    for file in ["client.p12", "3des.p12"] {
        talk(&lab.with_pkcs12(file, "secret"), broker.address).expect(file);
    }
}

/// What `openssl x509 -trustout` and `-param_enc explicit` write. Mosquitto's own clients take both.
#[test]
fn certificates_with_trust_settings_and_curves_written_out_are_taken() {
    let lab = Lab::new();
    for (name, settings) in [
        ("plain", ""),
        ("server", "-addtrust serverAuth -setalias lab"),
        ("any", "-addtrust anyExtendedKeyUsage"),
        ("client", "-addtrust clientAuth"),
        ("no-server", "-addreject serverAuth"),
        ("no-client", "-addreject clientAuth"),
    ] {
        lab.openssl(&format!(
            "x509 -in ca.pem -trustout {settings} -out ca-{name}.pem"
        ));
        assert!(
            lab.text(&format!("ca-{name}.pem"))
                .starts_with("-----BEGIN TRUSTED CERTIFICATE")
        );
    }
    lab.openssl("x509 -in client.pem -trustout -addtrust clientAuth -out trusted-client.pem");
    let old = lab
        .text("client.pem")
        .replace("CERTIFICATE", "X509 CERTIFICATE");
    lab.write("old-client.pem", old);
    let old = lab
        .text("ca.pem")
        .replace("CERTIFICATE", "X509 CERTIFICATE");
    lab.write("ca-old.pem", old);
    let mut keys = Vec::new();
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        for (form, arguments) in [
            ("sec1", "-param_enc explicit"),
            ("sec1-no-parameters", "-noout -param_enc explicit"),
        ] {
            let key = format!("{curve}-{form}.key");
            lab.openssl(&format!(
                "ecparam -name {curve} -genkey {arguments} -out {key}"
            ));
            keys.push(key);
        }
        let key = format!("{curve}-pkcs8.key");
        lab.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -pkeyopt ec_param_enc:explicit -out {key}"
        ));
        keys.push(key);
    }
    let broker = lab.strict_broker("-sigalgs ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512");
    let with_ca = |ca: &str, cert: &str, key: &str| TlsOptions {
        ca: Some(lab.path(ca).into()),
        ..lab.with(cert, key)
    };
    for ca in ["plain", "server", "any", "no-client", "old"] {
        for cert in ["trusted-client.pem", "old-client.pem"] {
            let options = with_ca(&format!("ca-{ca}.pem"), cert, "client.key");
            if let Err(error) = talk(&options, broker.address) {
                panic!("{ca}, {cert}: {error}");
            }
        }
    }
    for ca in ["client", "no-server"] {
        let file = format!("ca-{ca}.pem");
        let error = connector(&with_ca(&file, "client.pem", "client.key")).expect_err(ca);
        let expected = "no certificate in it is trusted for servers";
        assert!(error.to_string().contains(expected), "{error}");
        // Beside another one it does not count.
        lab.write("both.pem", lab.text("ca-plain.pem") + &lab.text(&file));
        talk(
            &with_ca("both.pem", "client.pem", "client.key"),
            broker.address,
        )
        .unwrap();
    }
    for key in keys {
        // A certificate with the curve's name, as most authorities write it, whatever the key's file has.
        lab.openssl(&format!(
            "pkey -in {key} -ec_param_enc named_curve -out named.key"
        ));
        lab.openssl("req -new -key named.key -subj /CN=client -out request.pem");
        lab.write("ca.key", lab.authority.key().serialize_pem());
        lab.openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -set_serial 7 -out curve.pem",
        );
        if let Err(error) = talk(&lab.with("curve.pem", &key), broker.address) {
            panic!("{key}: {error}");
        }
    }
}

#[test]
fn a_chain_is_sent_whole() {
    let lab = Lab::new();
    let middle = intermediate(&lab.authority, |_| {});
    let key = KeyPair::generate().unwrap();
    let leaf = params("deep client", &[]).signed_by(&key, &middle).unwrap();
    lab.write("deep.pem", leaf.pem() + &middle.pem());
    lab.write("deep.key", key.serialize_pem());
    let broker = lab.strict_broker("");
    talk(&lab.with("deep.pem", "deep.key"), broker.address).unwrap();
}
