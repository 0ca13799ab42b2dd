//! The Secrets that engines name, read one by one: to watch them the operator would need the right to list them all.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::credentials::{self, Data};

/// What was read is believed for so long.
const BELIEVED: Duration = Duration::from_secs(55);
/// What nobody asked for in so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// When a Secret was read, and what was there.
type Read = (Instant, Option<Data>);

/// What was read lately.
#[derive(Debug, Default)]
pub struct Secrets {
    /// By namespace and name.
    read: Mutex<HashMap<(String, String), Read>>,
}

impl Secrets {
    /// These Secrets of a namespace; `anew` where it is doubted that what is remembered still holds.
    ///
    /// # Errors
    /// If the API server does not say whether there is one.
    pub async fn of(
        &self,
        client: &Client,
        namespace: &str,
        names: BTreeSet<String>,
        anew: bool,
    ) -> Result<credentials::Secrets, kube::Error> {
        let mut secrets = credentials::Secrets::new();
        for name in names {
            let key = (namespace.to_owned(), name.clone());
            let data = match self.remembered(&key).filter(|_| !anew) {
                Some(data) => data,
                None => {
                    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&name).await?;
                    let data = secret.map(|secret| {
                        let data = secret.data.unwrap_or_default().into_iter();
                        data.map(|(key, value)| (key, value.0)).collect()
                    });
                    self.remember(key, data, Instant::now())
                }
            };
            secrets.insert(name, data);
        }
        Ok(secrets)
    }

    fn remembered(&self, key: &(String, String)) -> Option<Option<Data>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, data) = read.get(key)?;
        // What is missing is being made, perhaps.
        data.as_ref().filter(|_| at.elapsed() < BELIEVED).map(|data| Some(data.clone()))
    }

    fn remember(&self, key: (String, String), data: Option<Data>, now: Instant) -> Option<Data> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|_, (at, _)| now.saturating_duration_since(*at) < FORGOTTEN);
        read.insert(key, (now, data.clone()));
        data
    }
}
