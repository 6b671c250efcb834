//! The platform's defaults as each object first saw them: in an immutable ConfigMap beside it, read once, and kept in memory, one copy for all
//! objects that saw the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use sera_crds::defaults::RunDefaults;

use crate::{
    build::DEFAULTS_KEY,
    facts::Uid,
    names::{Owner, is_controlled_by},
};

/// Why an object's defaults cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer.
    #[error("the ConfigMap '{name}' cannot be read")]
    Read {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// It holds something else than defaults.
    #[error("the ConfigMap '{name}' holds no defaults of this operator's release under '{DEFAULTS_KEY}'")]
    Malformed {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: serde_yaml::Error,
    },
    /// The platform's own defaults cannot be written as YAML, which their type rules out.
    #[error("the platform's defaults cannot be written")]
    Encode(#[source] serde_yaml::Error),
}

/// The defaults of every object that had a pass in this process, by its uid.
#[derive(Debug)]
pub struct FixedDefaults {
    platform: Arc<RunDefaults>,
    known: Mutex<HashMap<Uid, Arc<RunDefaults>>>,
}

impl FixedDefaults {
    /// Nothing is known yet; what is seen from now on sees `platform`.
    pub fn new(platform: RunDefaults) -> Self {
        Self { platform: Arc::new(platform), known: Mutex::default() }
    }

    /// The defaults of `owner`; none where they were not fixed yet.
    pub async fn of(&self, owner: &Owner, client: &Client) -> Result<Option<Arc<RunDefaults>>, Error> {
        if let Some(known) = self.known().get(&owner.uid) {
            return Ok(Some(Arc::clone(known)));
        }
        let name = owner.defaults_name();
        let api = Api::<ConfigMap>::namespaced(client.clone(), &owner.namespace);
        let found = api.get_opt(&name).await.map_err(|source| Error::Read { name: name.clone(), source })?;
        // Another object's ConfigMap is none at all: making ours will fail, and that is said in status.
        let Some(found) = found.filter(|found| is_controlled_by(&found.metadata, &owner.uid)) else { return Ok(None) };
        let text = found.data.unwrap_or_default().remove(DEFAULTS_KEY).unwrap_or_default();
        let defaults = serde_yaml::from_str(&text).map_err(|source| Error::Malformed { name, source })?;
        Ok(Some(self.remember(&owner.uid, defaults)))
    }

    /// The text of a ConfigMap that fixes the platform's defaults of this moment.
    pub fn text(&self) -> Result<String, Error> {
        serde_yaml::to_string(&*self.platform).map_err(Error::Encode)
    }

    /// Notes that `uid` was given the platform's defaults of this moment.
    pub fn fixed(&self, uid: &Uid) {
        self.known().insert(uid.clone(), Arc::clone(&self.platform));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &Uid) {
        self.known().remove(uid);
    }

    /// Keeps `defaults` for `uid`: as a share of an equal copy, where there is one. A platform has few different ones, ever.
    fn remember(&self, uid: &Uid, defaults: RunDefaults) -> Arc<RunDefaults> {
        let mut known = self.known();
        let equal = std::iter::once(&self.platform).chain(known.values()).find(|other| ***other == defaults).cloned();
        let shared = equal.unwrap_or_else(|| Arc::new(defaults));
        known.insert(uid.clone(), Arc::clone(&shared));
        shared
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uid, Arc<RunDefaults>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
