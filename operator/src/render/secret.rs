//! The Secret that carries the document to the sidecars.

use decree_crds::labels;
use decree_wire::document::{Document, FILE};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::metadata;
use crate::credentials::Data;
use crate::spec::Engine;

/// The Secret, with the files that the document names; the same bytes for the same document, so that applying it twice changes nothing.
///
/// # Errors
/// If the document has no JSON form.
pub fn secret(engine: &Engine, document: &Document, files: &Data) -> Result<Secret, serde_json::Error> {
    let document = (FILE.to_owned(), ByteString(serde_json::to_vec(document)?));
    let files = files.iter().map(|(name, bytes)| (name.clone(), ByteString(bytes.clone())));
    Ok(Secret {
        metadata: metadata(engine, &labels::document_secret(&engine.name.name)),
        data: Some(files.chain([document]).collect()),
        type_: Some("decree.dev/document".into()),
        ..Secret::default()
    })
}

/// The level of the document in a Secret that was written before.
#[must_use]
pub fn level(secret: &Secret) -> Option<u32> {
    let document: serde_json::Value = serde_json::from_slice(&secret.data.as_ref()?.get(FILE)?.0).ok()?;
    document.get("level")?.as_u64().and_then(|level| u32::try_from(level).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::document::{Log, document};
    use crate::spec::example;

    #[test]
    fn a_sidecar_can_read_it_before_and_after_the_topic_is_there() {
        for id in [None, Some("abc")] {
            let written = document(&example(), "cluster", Log::Topic(id.map(str::to_owned)), 1);
            let secret = secret(&example(), &written, &Data::new()).unwrap();
            assert_eq!(secret.metadata.name.as_deref(), Some("decree-policy"));
            assert_eq!(level(&secret), Some(1));
            let read = Document::read(&secret.data.unwrap()[FILE].0).unwrap();
            assert_eq!(read, written);
            assert_eq!(read.kafka.unwrap().topic_id.as_deref(), id);
        }
    }
}
