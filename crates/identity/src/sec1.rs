//! Keys of P-256 in the form of RFC 5915, labelled `EC PRIVATE KEY`. Clients in Java tell by that label what a key is for,
//! and take one that says `PRIVATE KEY` for an RSA key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use x509_parser::der_parser::der::parse_der;

const SCALAR: usize = 32;
const POINT: usize = 65;

/// The key in that form; what is no key of P-256 stays as it is.
pub(crate) fn labelled(pem: &str) -> String {
    encoded(pem).unwrap_or_else(|| pem.to_owned())
}

fn encoded(pem: &str) -> Option<String> {
    let key = KeyPair::from_pem(pem).ok()?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return None;
    }
    // PKCS #8: version, algorithm, and an octet string that holds the key: version, scalar, public point.
    let outer = key.serialize_der();
    let (_, outer) = parse_der(&outer).ok()?;
    let inner = outer.as_sequence().ok()?.get(2)?.as_slice().ok()?;
    let (_, inner) = parse_der(inner).ok()?;
    let scalar = inner.as_sequence().ok()?.get(1)?.as_slice().ok()?;
    let point = key.der_bytes();
    if scalar.len() != SCALAR || point.len() != POINT {
        return None;
    }
    // A sequence of version 1, the scalar, [0] the curve prime256v1 by its name, and [1] the point as a string of bits.
    let mut der = vec![0x30, 0x77, 0x02, 0x01, 0x01, 0x04, SCALAR as u8];
    der.extend_from_slice(scalar);
    der.extend_from_slice(&[
        0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ]);
    der.extend_from_slice(&[0xa1, 0x44, 0x03, POINT as u8 + 1, 0x00]);
    der.extend_from_slice(point);
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN EC PRIVATE KEY-----\n");
    for start in (0..text.len()).step_by(64) {
        out.push_str(&text[start..text.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str("-----END EC PRIVATE KEY-----\n");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{PKCS_ECDSA_P384_SHA384, SigningKey};

    #[test]
    fn it_is_the_same_key() {
        let key = KeyPair::generate().unwrap();
        let text = labelled(&key.serialize_pem());
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "{text}");
        let again = KeyPair::from_pem(&text).unwrap();
        assert_eq!(again.der_bytes(), key.der_bytes());
        assert!(again.sign(b"anything").is_ok());
    }

    #[test]
    fn others_stay_as_they_are() {
        let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)
            .unwrap()
            .serialize_pem();
        assert_eq!(labelled(&other), other);
        assert_eq!(labelled("no key"), "no key");
    }
}
