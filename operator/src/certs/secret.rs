//! The certificates as a Secret: the operators of one cluster share them there.

use std::collections::BTreeMap;

use decree_crds::labels;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::authority::{Authority, Material};

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT: &str = "next-ca.crt";
const NEXT_KEY: &str = "next-ca.key";
const PREVIOUS: &str = "previous-ca.crt";

/// What the Secret holds; none where it was never filled, or not by us.
#[must_use]
pub fn read(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    let next = text(NEXT).zip(text(NEXT_KEY)).map(|(certificate, key)| Authority { certificate, key });
    Some(Material {
        ca: text(CA)?,
        ca_key: text(CA_KEY)?,
        certificate: text(CERTIFICATE)?,
        key: text(KEY)?,
        next,
        previous: text(PREVIOUS).unwrap_or_default(),
    })
}

/// Whether a person asks for a new authority.
#[must_use]
pub fn asks(secret: &Secret) -> bool {
    secret
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(labels::ROTATE_CA))
}

/// The same Secret with this in it, and with what a person asked for answered; its resource version stays, so that of
/// two writers one is told.
#[must_use]
pub fn filled(mut secret: Secret, material: &Material) -> Secret {
    let Material { ca, ca_key, certificate, key, next, previous } = material;
    let mut entries = vec![(CA, ca), (CA_KEY, ca_key), (CERTIFICATE, certificate), (KEY, key)];
    if let Some(next) = next {
        entries.extend([(NEXT, &next.certificate), (NEXT_KEY, &next.key)]);
    }
    if !previous.is_empty() {
        entries.push((PREVIOUS, previous));
    }
    let bytes = |text: &String| ByteString(text.clone().into_bytes());
    secret.data = Some(
        entries.into_iter().map(|(name, text)| (name.to_owned(), bytes(text))).collect::<BTreeMap<_, _>>(),
    );
    if next.is_some() {
        secret.metadata.annotations.get_or_insert_default().remove(labels::ROTATE_CA);
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_read_again() {
        let text = |name: &str| name.to_owned();
        let mut material = Material {
            ca: text("a"),
            ca_key: text("b"),
            certificate: text("c"),
            key: text("d"),
            next: None,
            previous: String::new(),
        };
        assert_eq!(read(&Secret::default()), None);
        assert_eq!(read(&filled(Secret::default(), &material)).as_ref(), Some(&material));
        material.next = Some(Authority { certificate: text("e"), key: text("f") });
        material.previous = text("g");
        let announced = filled(Secret::default(), &material);
        assert_eq!(read(&announced).as_ref(), Some(&material));
        material.next = None;
        assert_eq!(read(&filled(announced, &material)), Some(material), "keys that are gone are gone");
    }

    #[test]
    fn a_wish_stands_until_it_is_granted() {
        let mut secret = Secret::default();
        secret.metadata.annotations.get_or_insert_default().insert(labels::ROTATE_CA.into(), "now".into());
        assert!(asks(&secret));
        let mut material = Material {
            ca: String::new(),
            ca_key: String::new(),
            certificate: String::new(),
            key: String::new(),
            next: None,
            previous: String::new(),
        };
        assert!(asks(&filled(secret.clone(), &material)));
        material.next = Some(Authority { certificate: String::new(), key: String::new() });
        assert!(!asks(&filled(secret, &material)));
    }
}
