//! The Secret that carries the document to the sidecars.

use decree_crds::labels;
use decree_wire::document::{Document, FILE};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::metadata;
use crate::spec::Engine;

/// The Secret; the same bytes for the same document, so that applying it twice changes nothing.
///
/// # Errors
/// If the document has no JSON form.
pub fn secret(engine: &Engine, document: &Document) -> Result<Secret, serde_json::Error> {
    let bytes = serde_json::to_vec(document)?;
    Ok(Secret {
        metadata: metadata(engine, &labels::document_secret(&engine.name.name)),
        data: Some([(FILE.to_owned(), ByteString(bytes))].into()),
        type_: Some("decree.dev/document".into()),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::document::document;
    use crate::spec::example;

    #[test]
    fn a_sidecar_can_read_it_before_and_after_the_topic_is_there() {
        for id in [None, Some("abc")] {
            let written = document(&example(), "cluster", id);
            let secret = secret(&example(), &written).unwrap();
            assert_eq!(secret.metadata.name.as_deref(), Some("decree-policy"));
            let read = Document::read(&secret.data.unwrap()[FILE].0).unwrap();
            assert_eq!(read, written);
            assert_eq!(read.kafka.topic_id.as_deref(), id);
        }
    }
}
