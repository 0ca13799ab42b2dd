//! The certificates as a Secret: the operators of one cluster share them there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::authority::Material;

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What the Secret holds; none where it was never filled, or not by us.
#[must_use]
pub fn read(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Material { ca: text(CA)?, ca_key: text(CA_KEY)?, certificate: text(CERTIFICATE)?, key: text(KEY)? })
}

/// The same Secret with this in it; its resource version stays, so that of two writers one is told.
#[must_use]
pub fn filled(mut secret: Secret, material: &Material) -> Secret {
    let Material { ca, ca_key, certificate, key } = material;
    let entries = [(CA, ca), (CA_KEY, ca_key), (CERTIFICATE, certificate), (KEY, key)];
    let bytes = |text: &String| ByteString(text.clone().into_bytes());
    secret.data = Some(
        entries.map(|(name, text)| (name.to_owned(), bytes(text))).into_iter().collect::<BTreeMap<_, _>>(),
    );
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_read_again() {
        let text = |name: &str| name.to_owned();
        let material = Material { ca: text("a"), ca_key: text("b"), certificate: text("c"), key: text("d") };
        assert_eq!(read(&Secret::default()), None);
        assert_eq!(read(&filled(Secret::default(), &material)), Some(material));
    }
}
