//! Keys, certificates and requests for them: what is said of those that are not what they should be.

use crate::kind_of;
use crate::validation::{creates, ready};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::warnings;
use serde_json::{Value, json};

/// A request for a certificate, of a key of a curve.
const REQUEST: &str = "MIHGMG4CAQAwDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAoxz6GTlpzYY9EQMPwLh9LQthKmz8x64EqXTlLSMloDs5s1XeL/XZrNVWDqOnhgDXXpL3CAAPNw6HSjhYgtmtmgADAKBggqhkjOPQQDAgNIADBFAiAebWU7hWZ/bszjUMlitpi3cVJxOK/fco6MxJJa63awdAIhAM+rvW3Md/irBQ1e62YYVD11OXrKKcjmzVqDr3Uy1wDd";

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBcDCCARWgAwIBAgIUOruQQiuUNKFu7PP8l80cLKe6UQkwCgYIKoZIzj0EAwIw\nDDEKMAgGA1UEAwwBYTAgFw0yNjExMzAwNzQ2MjJaGA8yMTI2MTEwNjA3NDYyMlow\nDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAoxz6GTlpzY\nY9EQMPwLh9LQthKmz8x64EqXTlLSMloDs5s1XeL/XZrNVWDqOnhgDXXpL3CAAPNw\n6HSjhYgtmtmjUzBRMB0GA1UdDgQWBBTSm6zrDkw9XhRnFEuY23cbNzGywTAfBgNV\nHSMEGDAWgBTSm6zrDkw9XhRnFEuY23cbNzGywTAPBgNVHRMBAf8EBTADAQH/MAoG\nCCqGSM49BAMCA0kAMEYCIQCXE3vKliY9YsQQWkzLId56nYqntIfjBUVICtvksm4t\nTwIhAOwCqVzTrAGDaLatgNi9wD4HtV34SeUHZ9UIfPvOzuAF\n-----END CERTIFICATE-----\n";
/// Its key, in two forms, and others.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAbTIyM7B+gq1Bh2b\nb6PjIRPfG9ugshnJyQrOXPK2DOWhRANCAAQKMc+hk5ac2GPREDD8C4fS0LYSps/M\neuBKl05S0jJaA7ObNV3i/12azVVg6jp4YA116S9wgADzcOh0o4WILZrZ\n-----END PRIVATE KEY-----\n";
const SAME_KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAG0yMjOwfoKtQYdm2+j4yET3xvboLIZyckKzlzytgzloAoGCCqGSM49\nAwEHoUQDQgAECjHPoZOWnNhj0RAw/AuH0tC2EqbPzHrgSpdOUtIyWgOzmzVd4v9d\nms1VYOo6eGANdekvcIAA83DodKOFiC2a2Q==\n-----END EC PRIVATE KEY-----\n";
const OTHER_KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBW9ydb7axXC75FMXARXrTUyLEQCUZAaAx8NOQyFecU+oAoGCCqGSM49\nAwEHoUQDQgAEicgJUIyl1TCpOmZ/PY4CWgZI/74McO+3arR7IJv+JVYNGF8UtKWG\nAFb0dNmw/y5ZJ9Q5tdUYV3N5ujW5+TDwKw==\n-----END EC PRIVATE KEY-----\n";
const EDWARDS_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJuRGMlIylPVvHgQMnBIrL+yeSX8MM7sXIUVWo3uiw0r\n-----END PRIVATE KEY-----\n";

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    STANDARD.encode(format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
    ))
}

#[test]
fn requests_for_certificates() {
    let der = STANDARD.decode(REQUEST).expect("base64");
    let request = format!(
        "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: r}}, spec: {{signerName: a.io/b, \
         usages: [client auth], request: {}}}}}",
        pem(&der)
    );
    let mut forged = der.clone();
    *forged.last_mut().expect("bytes") ^= 1;
    let mut longer = der.clone();
    longer.push(0);
    let cases: [(&[u8], &str); 6] = [
        (&forged, "x509: ECDSA verification failure"),
        (&longer, "asn1: syntax error: trailing data"),
        (&der[..der.len() - 3], "asn1: syntax error: data truncated"),
        (b"", "asn1: syntax error: sequence truncated"),
        (b"\x30", "asn1: syntax error: truncated tag or length"),
        (
            b"hello",
            "asn1: structure error: tags don't match (16 vs {class:1 tag:8 length:101 isCompound:true}) {optional:false \
             explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false \
             omitEmpty:false} certificateRequest @2",
        ),
    ];
    for (bytes, why) in cases {
        let sent = pem(bytes);
        let told = format!("spec.request: Invalid value: {sent:?}: {why}");
        creates(&request, &[("/spec/request", json!(sent), &[&told])]);
    }
    assert!(ready(&request).is_object());
}

#[test]
fn certificates_and_keys_that_belong_together_or_not() {
    let switched = "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
                    have been switched";
    let two = format!("{KEY}{KEY}");
    let cases = [
        (CERTIFICATE, KEY, ""),
        (CERTIFICATE, SAME_KEY, ""),
        (
            CERTIFICATE,
            OTHER_KEY,
            "tls: private key does not match public key",
        ),
        (
            CERTIFICATE,
            EDWARDS_KEY,
            "tls: private key type does not match public key type",
        ),
        (KEY, CERTIFICATE, switched),
        (
            &two,
            KEY,
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
             types: [PRIVATE KEY PRIVATE KEY]",
        ),
        (
            CERTIFICATE,
            CERTIFICATE,
            "tls: found a certificate rather than a key in the PEM for the private key",
        ),
        (CERTIFICATE, "x", "tls: failed to find any PEM data in key input"),
        (
            CERTIFICATE,
            "-----BEGIN PRIVATE KEY-----\neA==\n-----END PRIVATE KEY-----\n",
            "tls: failed to parse private key",
        ),
        (
            "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n",
            KEY,
            "x509: malformed certificate",
        ),
    ];
    for (certificate, key, expected) in cases {
        let data: Value = json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "kubernetes.io/tls",
            "data": data});
        let told = warnings(kind_of(&secret), &secret, None).concat();
        assert_eq!(told, expected, "{key}");
    }
}
