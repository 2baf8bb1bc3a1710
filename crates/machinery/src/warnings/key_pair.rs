//! Certificates and keys that do not belong together, in the words of Go's `tls.X509KeyPair`, which upstream passes on
//! (`pkg/registry/core/secret/strategy.go`).

use crate::der;
use crate::validation::pem_blocks;
use x509_parser::certificate::X509Certificate;

/// A public key: which kind it is of, and what tells it from others of its kind, where that is known.
#[derive(PartialEq)]
enum Public {
    Rsa(Vec<u8>),
    Curve(Option<Vec<u8>>),
    Edwards,
}

const RSA: &str = "1.2.840.113549.1.1.1";
const CURVE: &str = "1.2.840.10045.2.1";
const EDWARDS: &str = "1.3.101.112";

/// What is wrong with a pair of PEM files.
pub(super) fn fault(certificate: &[u8], key: &[u8]) -> Option<String> {
    let certificate = match certificate_in(certificate) {
        Ok(der) => der,
        Err(why) => return Some(format!("tls: {why}")),
    };
    let key = match key_in(key) {
        Ok(der) => der,
        Err(why) => return Some(format!("tls: {why}")),
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&certificate) else {
        return Some("x509: malformed certificate".to_owned());
    };
    let Some(own) = of_key(&key) else {
        return Some("tls: failed to parse private key".to_owned());
    };
    let why = match (of_certificate(&parsed), own) {
        (None, _) => "unknown public key algorithm",
        (Some(Public::Rsa(shown)), Public::Rsa(own)) if shown == own => return None,
        // A key that does not tell its public half is believed.
        (Some(Public::Curve(shown)), Public::Curve(own)) if own.is_none() || shown == own => return None,
        (Some(Public::Edwards), Public::Edwards) => return None,
        (Some(Public::Rsa(_)), Public::Rsa(_)) | (Some(Public::Curve(_)), Public::Curve(_)) => {
            "private key does not match public key"
        }
        _ => "private key type does not match public key type",
    };
    Some(format!("tls: {why}"))
}

/// The first block of a kind, or the kinds of those that were passed over.
fn block_in(text: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, Vec<String>> {
    let mut skipped = Vec::new();
    for block in pem_blocks(&String::from_utf8_lossy(text)) {
        if wanted(&block.kind) {
            return Ok(block.content);
        }
        skipped.push(block.kind);
    }
    Err(skipped)
}

fn is_key(kind: &str) -> bool {
    kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY")
}

fn certificate_in(text: &[u8]) -> Result<Vec<u8>, String> {
    block_in(text, |kind| kind == "CERTIFICATE").map_err(|skipped| match &skipped[..] {
        [] => "failed to find any PEM data in certificate input".to_owned(),
        [one] if one.ends_with("PRIVATE KEY") => {
            "failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been \
             switched"
                .to_owned()
        }
        _ => format!(
            "failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
             types: [{}]",
            skipped.join(" ")
        ),
    })
}

fn key_in(text: &[u8]) -> Result<Vec<u8>, String> {
    block_in(text, is_key).map_err(|skipped| match &skipped[..] {
        [] => "failed to find any PEM data in key input".to_owned(),
        [one] if one == "CERTIFICATE" => {
            "found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        _ => format!(
            "failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
             following types: [{}]",
            skipped.join(" ")
        ),
    })
}

fn of_certificate(certificate: &X509Certificate<'_>) -> Option<Public> {
    let key = certificate.public_key();
    let bytes = &key.subject_public_key.data;
    match key.algorithm.algorithm.to_id_string().as_str() {
        RSA => Some(Public::Rsa(modulus(bytes, 0)?)),
        CURVE => Some(Public::Curve(Some(bytes.to_vec()))),
        EDWARDS => Some(Public::Edwards),
        _ => None,
    }
}

/// The modulus of an RSA key, at a place of its sequence.
fn modulus(der: &[u8], place: usize) -> Option<Vec<u8>> {
    match der::sequence(der)?.get(place)? {
        (2, number) => Some(number.to_vec()),
        _ => None,
    }
}

/// A private key in any of its three forms: PKCS#1, PKCS#8, SEC 1.
fn of_key(key: &[u8]) -> Option<Public> {
    let parts = der::sequence(key)?;
    match &parts[..] {
        [(2, [0]), (2, _), (2, _), ..] => Some(Public::Rsa(modulus(key, 1)?)),
        [(2, [1]), (4, _), others @ ..] => Some(Public::Curve(point(others))),
        [(2, [0 | 1]), (0x30, algorithm), (4, inner), ..] => match der::values(algorithm).first()? {
            (6, [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]) => Some(Public::Rsa(modulus(inner, 1)?)),
            (6, [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]) => of_key(inner),
            (6, [0x2b, 0x65, 0x70]) => Some(Public::Edwards),
            _ => None,
        },
        _ => None,
    }
}

/// The public half in a key of a curve, behind the count of unused bits of its text.
fn point(parts: &[(u8, &[u8])]) -> Option<Vec<u8>> {
    let (_, holder) = parts.iter().find(|(tag, _)| *tag == 0xa1)?;
    match der::values(holder).first()? {
        (3, [0, point @ ..]) => Some(point.to_vec()),
        _ => None,
    }
}
