//! Finding a child's parent by its identity, among all locations that the caller's gate allows.
//!
//! File names, extensions and the order of a folder do not matter. Every candidate is examined. The parent is
//! the one with the recorded identity and, among several of those, the one with the recorded content. If
//! several remain, the search does not guess: the caller has to name one.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::{
    Advice, Candidate, Error, ErrorKind, OpenContext, ReferenceBy, Result, Sharing, Storage,
    StorageAccess, StorageId, StorageOptions,
};

/// Maximum number of files that an error lists.
const LISTED: usize = 8;

/// The identity by which children refer to an image. A format with shorter identifiers puts them at the end
/// of a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Identity of the image. Copies of a file share it.
    pub uuid: Uuid,
    /// Identity of the content, which changes with every change. `None` if the image has none.
    pub modification: Option<Uuid>,
}

/// A child's record of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentRecord {
    /// The parent's [`Identity::uuid`].
    pub uuid: Uuid,
    /// The parent's [`Identity::modification`] at the time of recording. `None` if none was recorded.
    pub modification: Option<Uuid>,
    /// Whether a parent that the caller named must have the recorded UUID. All other parents must have it.
    pub verify: bool,
}

impl ParentRecord {
    /// Returns whether an image has exactly the recorded content.
    pub fn is_exact(&self, identity: &Identity) -> bool {
        identity.uuid == self.uuid
            && self.modification.is_some()
            && identity.modification == self.modification
    }
}

/// The chosen file of a parent, open. `storage` is the one whose header was checked.
#[derive(Debug)]
#[non_exhaustive]
pub struct ParentFile {
    /// Storage, opened in the access mode of the parent.
    pub storage: Arc<dyn Storage>,
    /// Format of the image.
    pub format: String,
    /// Identity of the image. `None` for a file that the caller named and whose format has no identities.
    pub identity: Option<Identity>,
    /// Whether the caller named the file.
    pub named: bool,
    /// Warnings about the search, each as a clause.
    pub warnings: Vec<String>,
}

/// Cached results for candidates that the caller did not name, because a chain examines the same folder once
/// for each image.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeMap<String, Glance>>);

/// Result of examining one file.
#[derive(Debug, Clone)]
enum Glance {
    /// The file could not be read, or two formats claim it.
    Unknown,
    /// The file's format has no identities, or the image has none.
    Nameless(Option<StorageId>),
    /// The image has an identity.
    Known(Option<StorageId>, Box<(String, Identity)>),
}

/// A candidate that may be the parent.
#[derive(Debug)]
struct Match {
    uri: String,
    id: Option<StorageId>,
    format: String,
    /// `None`: the caller vouches for the file.
    identity: Option<Identity>,
    named: bool,
}

/// Key that distinguishes files.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(StorageId),
    Uri(String),
}

/// Result of examining all candidates.
#[derive(Debug, Default)]
struct Search {
    matches: HashMap<Key, Match>,
    /// A file that would match but is already in the chain.
    in_chain: Option<String>,
    /// Reasons why files that the caller named are not the parent.
    refused: Vec<Error>,
    named: usize,
    looked_at: usize,
    unknown: usize,
    missed: Vec<String>,
}

/// Finds the parent of the image in `child`, and opens its storage.
pub(crate) async fn find(
    cx: &OpenContext,
    child: &dyn Storage,
    record: &ParentRecord,
) -> Result<ParentFile> {
    let answer = cx.candidates(child, ReferenceBy::Uuid(record.uuid)).await?;
    let mut search = Search { missed: answer.missed, ..Search::default() };
    for candidate in answer.places {
        search.look_at(cx, child, candidate, record).await;
    }
    let chosen = search.choose(record, cx.writes_into_parent());
    let Some(chosen) = chosen.map_err(|error| error.in_image(child.uri()))? else {
        return Err(search.not_found(record).in_image(child.uri()));
    };
    let storage = open_judged(cx, chosen, record).await?;
    let mut warnings = Vec::new();
    if !chosen.named {
        warnings.extend(search.missed.iter().map(|missed| format!("{}: {missed}", chosen.uri)));
    }
    Ok(ParentFile {
        storage,
        format: chosen.format.clone(),
        identity: chosen.identity,
        named: chosen.named,
        warnings,
    })
}

impl Search {
    async fn look_at(
        &mut self,
        cx: &OpenContext,
        child: &dyn Storage,
        candidate: Candidate,
        record: &ParentRecord,
    ) {
        let Candidate { uri, format, named } = candidate;
        self.looked_at = self.looked_at.saturating_add(1);
        self.named = self.named.saturating_add(usize::from(named));
        let (id, format, identity) = match glance(cx, &uri, format.as_deref(), named).await {
            Ok(Glance::Known(id, known)) => (id, known.0, Some(known.1)),
            Ok(Glance::Nameless(id)) if named => (id, format.unwrap_or_default(), None),
            Ok(Glance::Nameless(_)) => return,
            Ok(Glance::Unknown) => {
                self.unknown = self.unknown.saturating_add(1);
                return;
            }
            Err(error) => {
                self.unknown = self.unknown.saturating_add(1);
                if named {
                    self.refused.push(error.in_image(uri));
                }
                return;
            }
        };
        if let Some(identity) = identity.filter(|identity| identity.uuid != record.uuid) {
            if named && record.verify {
                self.refused.push(mismatch(&identity, record).in_image(uri.clone()));
            }
            if !named || record.verify {
                return;
            }
        }
        if cx.is_in_chain(child, id) {
            self.in_chain.get_or_insert(uri);
            return;
        }
        let found = Match { uri, id, format, identity, named };
        // A file under two names counts once. An entry with an identity replaces one without.
        let key = id.map_or_else(|| Key::Uri(found.uri.clone()), Key::Id);
        match self.matches.entry(key) {
            Entry::Vacant(place) => drop(place.insert(found)),
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                let named = known.named || found.named;
                if known.identity.is_none() {
                    *known = found;
                }
                known.named = named;
            }
        }
    }

    /// Chooses the parent, if a candidate matches. `writes` says whether it will be written to.
    fn choose(&self, record: &ParentRecord, writes: bool) -> Result<Option<&Match>> {
        let fits = |found: &Match| found.identity.is_some_and(|i| i.uuid == record.uuid);
        let of = |wanted: &dyn Fn(&Match) -> bool| {
            self.matches.values().filter(|found| wanted(found)).collect::<Vec<_>>()
        };
        // Verifiable candidates take precedence over those that the caller vouches for.
        let best = [
            of(&|found| found.named && fits(found)),
            of(&|found| !found.named && fits(found)),
            of(&|found| found.named && !fits(found)),
        ]
        .into_iter()
        .find(|found| !found.is_empty());
        let Some(best) = best else { return Ok(None) };
        let is_exact =
            |found: &&Match| found.identity.is_some_and(|identity| record.is_exact(&identity));
        let chosen = match best.as_slice() {
            [only] => *only,
            several => {
                let mut exact = several.iter().copied().filter(is_exact);
                match (exact.next(), exact.next()) {
                    (Some(only), None) => only,
                    (first, _) => return Err(ambiguous(several, record, first.is_some())),
                }
            }
        };
        if writes && !chosen.named {
            if !is_exact(&chosen) {
                return Err(stale(chosen, record));
            }
            if let Some(missed) = self.missed.first() {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!(
                        "'{}' can be the parent, UUID {}, but {missed}; it is not written into unless the caller names it",
                        chosen.uri, record.uuid
                    ),
                )
                .with_code("parent-stale").with_hint(Advice::NameParent));
            }
        }
        Ok(Some(chosen))
    }

    /// Returns the error that no candidate is the parent, with the reasons.
    fn not_found(mut self, record: &ParentRecord) -> Error {
        if let Some(uri) = &self.in_chain {
            return Error::new(ErrorKind::Corrupt, format!("the chain leads back to {uri}"));
        }
        if self.named == 1
            && let Some(refused) = self.refused.pop()
        {
            return refused;
        }
        let mut text = match self.looked_at {
            0 => format!("the image needs UUID {}, and no allowed place holds a file", record.uuid),
            1 => format!(
                "the one file in the allowed places is not the parent, UUID {}",
                record.uuid
            ),
            count => format!("none of {count} files holds the parent, UUID {}", record.uuid),
        };
        if self.unknown > 0 {
            let _ = write!(text, "; {} of them could not be read", self.unknown);
        }
        for refused in self.refused.iter().take(LISTED) {
            let _ = write!(text, "; {refused}");
        }
        for missed in &self.missed {
            let _ = write!(text, "; {missed}");
        }
        Error::new(ErrorKind::NotFound, text)
            .with_code("parent-not-found")
            .with_hint(Advice::FindReference)
    }
}

fn mismatch(found: &Identity, record: &ParentRecord) -> Error {
    let text = format!("the UUID is {}, and the image's parent has {}", found.uuid, record.uuid);
    Error::new(ErrorKind::Corrupt, text).with_code("parent-mismatch")
}

fn ambiguous(several: &[&Match], record: &ParentRecord, several_are_exact: bool) -> Error {
    let mut names: Vec<&str> = several.iter().map(|found| found.uri.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    let rest = count.saturating_sub(LISTED);
    let mut list = names.iter().take(LISTED).map(|name| format!("'{name}'")).collect::<Vec<_>>();
    if rest > 0 {
        list.push(format!("and {rest} more"));
    }
    let why = if several_are_exact {
        "more than one has the content that the image recorded"
    } else {
        "none is known to have the content that the image recorded"
    };
    Error::new(
        ErrorKind::Ambiguous,
        format!(
            "{count} files can be the parent, UUID {}, and {why}: {}",
            record.uuid,
            list.join(", ")
        ),
    )
    .with_code("parent-ambiguous")
    .with_hint(Advice::NameParent)
}

fn stale(found: &Match, record: &ParentRecord) -> Error {
    let word = |uuid: Option<Uuid>| uuid.map_or("none".to_owned(), |uuid| uuid.to_string());
    Error::new(
        ErrorKind::Denied,
        format!(
            "'{}' has the UUID of the parent, but its modification UUID is {} and the image recorded {}; it is not written into unless the caller names it",
            found.uri,
            word(found.identity.and_then(|identity| identity.modification)),
            word(record.modification),
        ),
    )
    .with_code("parent-stale").with_hint(Advice::NameParent)
}

/// Examines a file and closes it again. Caches the result unless the caller named the file.
async fn glance(cx: &OpenContext, uri: &str, format: Option<&str>, named: bool) -> Result<Glance> {
    if named {
        return look(cx, uri, format).await;
    }
    let lock = || cx.seen().0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(uri) {
        return Ok(known.clone());
    }
    let seen = look(cx, uri, format).await.unwrap_or(Glance::Unknown);
    lock().insert(uri.to_owned(), seen.clone());
    Ok(seen)
}

async fn look(cx: &OpenContext, uri: &str, format: Option<&str>) -> Result<Glance> {
    // Without a lock, because our own lock on the child or another program's lock would make this fail.
    let request = StorageOptions::new(StorageAccess::Read).sharing(Sharing::Unlocked);
    let storage = cx.registry().open_storage(uri, &request).await?;
    let id = storage.id();
    Ok(match identify(cx, &*storage, format).await? {
        Some(known) => Glance::Known(id, Box::new(known)),
        None => Glance::Nameless(id),
    })
}

/// Returns the format and the identity of an image, or `None` if it has none.
async fn identify(
    cx: &OpenContext,
    storage: &dyn Storage,
    format: Option<&str>,
) -> Result<Option<(String, Identity)>> {
    let registry = cx.registry();
    if let Some(format) = format {
        let identity = registry.driver(format)?.identity(storage).await?;
        return Ok(identity.map(|identity| (format.to_owned(), identity)));
    }
    let mut claims = Vec::new();
    for driver in registry.drivers() {
        if let Some(identity) = driver.identity(storage).await? {
            claims.push((driver.descriptor().name.to_owned(), identity));
        }
    }
    if claims.len() > 1 {
        let report = registry.probe(storage).await?;
        let name = registry.driver_of(&report, storage.uri())?.descriptor().name;
        claims.retain(|(format, _)| format == name);
    }
    Ok(claims.pop())
}

/// Opens the chosen file in the parent's access mode, and checks that it is still the file that was chosen.
async fn open_judged(
    cx: &OpenContext,
    chosen: &Match,
    record: &ParentRecord,
) -> Result<Arc<dyn Storage>> {
    let storage = cx.registry().open_storage(&chosen.uri, &cx.parent_storage_options()).await?;
    let identity = identify(cx, &*storage, Some(&chosen.format)).await?.map(|known| known.1);
    if storage.id() != chosen.id || identity != chosen.identity {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "another program changed it while the parent, UUID {}, was looked for",
                record.uuid
            ),
        )
        .in_image(chosen.uri.clone()));
    }
    Ok(storage)
}
