//! Requests for certificates: one PEM block of PKCS#10 whose signature is that of its key. The words are those of Go's
//! `encoding/asn1` and `crypto/x509`, which upstream passes on (`pkg/apis/certificates/validation`).

use super::certificates::blocks;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Error};

/// What is wrong with a request, as base64 text.
pub(super) fn fault(text: &str) -> Option<String> {
    let decoded = STANDARD.decode(text).unwrap_or_default();
    let blocks = blocks(&String::from_utf8_lossy(&decoded));
    let Some(block) = blocks.first().filter(|block| block.kind == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let der = block.content.as_slice();
    if let Err(why) = outermost(der) {
        return Some(why);
    }
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => match request.verify_signature() {
            // Of what can be no key here, the signer decides.
            Err(X509Error::SignatureVerificationError) => Some(unverified(&request)),
            _ => None,
        },
        Ok(_) => Some("asn1: syntax error: trailing data".to_owned()),
        Err(_) => Some("asn1: structure error: tags don't match".to_owned()),
    }
}

fn unverified(request: &X509CertificationRequest<'_>) -> String {
    let key = &request.certification_request_info.subject_pki.algorithm.algorithm;
    match key.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => "crypto/rsa: verification error",
        "1.2.840.10045.2.1" => "x509: ECDSA verification failure",
        _ => "x509: Ed25519 verification failure",
    }
    .to_owned()
}

/// Whether bytes begin with a whole sequence.
fn outermost(der: &[u8]) -> Result<(), String> {
    let syntax = |what: &str| format!("asn1: syntax error: {what}");
    let structure = |what: &str| format!("asn1: structure error: {what}");
    let (&first, rest) = der.split_first().ok_or_else(|| syntax("sequence truncated"))?;
    let truncated = || syntax("truncated tag or length");
    let (&short, mut rest) = rest.split_first().ok_or_else(truncated)?;
    let mut length = usize::from(short);
    if short == 0x80 {
        return Err(syntax("indefinite length found (not DER)"));
    }
    if short > 0x80 {
        length = 0;
        for _ in 0..short & 0x7f {
            let (&digit, after) = rest.split_first().ok_or_else(truncated)?;
            if length >= 1 << 23 {
                return Err(structure("length too large"));
            }
            length = length << 8 | usize::from(digit);
            rest = after;
            if length == 0 {
                return Err(structure("superfluous leading zeros in length"));
            }
        }
        if length < 0x80 {
            return Err(structure("non-minimal length"));
        }
    }
    if first != 0x30 {
        let (class, compound, tag) = (first >> 6, first & 0x20 != 0, first & 0x1f);
        let offset = der.len() - rest.len();
        return Err(structure(&format!(
            "tags don't match (16 vs {{class:{class} tag:{tag} length:{length} isCompound:{compound}}}) {{optional:false \
             explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false \
             omitEmpty:false}} certificateRequest @{offset}"
        )));
    }
    if rest.len() < length {
        return Err(syntax("data truncated"));
    }
    Ok(())
}
