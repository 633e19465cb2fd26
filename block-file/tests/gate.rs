//! The gate: the files that an image may name.
#![allow(missing_docs)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use block_core::{Candidate, Candidates, ErrorKind, Gate, Reference, ReferenceBy, Result};
use block_file::{DirectoryGate, path};
use uuid::Uuid;

const PARENT: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

/// Creates a machine's folder as VirtualBox lays it out, a file outside, and a link to that file.
fn machine() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for folder in ["vm/Snapshots", "elsewhere", "vm/folder.vdi"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in [
        "vm/base.vdi",
        "vm/Other.VDI",
        "vm/notes.txt",
        "vm/Snapshots/child.vdi",
        "vm/Snapshots/sibling.vdi",
        "elsewhere/far.vdi",
        "elsewhere/secret",
    ] {
        std::fs::write(root.join(file), file).unwrap();
    }
    std::os::unix::fs::symlink(root.join("elsewhere/far.vdi"), root.join("vm/link.vdi")).unwrap();
    std::os::unix::fs::symlink("base.vdi", root.join("vm/inside.vdi")).unwrap();
    (dir, root)
}

async fn answer(gate: &DirectoryGate, from: &Path, by: ReferenceBy) -> Result<Candidates> {
    let reference = Reference { from: path::to_text(from), by };
    gate.candidates(&reference).await
}

async fn ask(gate: &DirectoryGate, from: &Path, by: ReferenceBy) -> Result<Vec<String>> {
    let found = answer(gate, from, by).await?;
    assert_eq!(found.missed, [""; 0]);
    Ok(found.places.into_iter().map(|candidate| candidate.uri).collect())
}

fn name(name: &str) -> ReferenceBy {
    ReferenceBy::Name { name: name.to_owned(), format: None }
}

fn paths(root: &Path, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_uuid_is_looked_for_where_virtualbox_keeps_images_whatever_their_names() {
    let (_dir, root) = machine();
    let gate = DirectoryGate::new();
    let found = ask(&gate, &root.join("vm/Snapshots/child.vdi"), ReferenceBy::Uuid(PARENT)).await;
    let expected = ["vm/Snapshots/sibling.vdi", "vm/Other.VDI", "vm/base.vdi", "vm/notes.txt"];
    assert_eq!(found.unwrap(), paths(&root, &expected));

    let found = ask(&gate, &root.join("vm/base.vdi"), ReferenceBy::Uuid(PARENT)).await;
    let expected =
        ["vm/Other.VDI", "vm/notes.txt", "vm/Snapshots/child.vdi", "vm/Snapshots/sibling.vdi"];
    assert_eq!(found.unwrap(), paths(&root, &expected));
}

#[tokio::test]
async fn only_what_the_caller_names_is_the_callers_word() {
    let (_dir, root) = machine();
    let gate = DirectoryGate::new().candidate(Candidate::named("nbd:there", "vdi"));
    let from = root.join("vm/Snapshots/child.vdi");
    let found = answer(&gate, &from, ReferenceBy::Uuid(PARENT)).await.unwrap().places;
    assert_eq!(found[0], Candidate::named("nbd:there", "vdi"));
    assert_eq!(found.len(), 5);
    assert!(found[1..].iter().all(|found| !found.named && found.format.is_none()));
}

#[tokio::test]
async fn only_allowed_places_are_looked_at_and_each_once() {
    let (_dir, root) = machine();
    let from = root.join("vm/base.vdi");
    let nothing = ask(&DirectoryGate::explicit(), &from, ReferenceBy::Uuid(PARENT)).await;
    assert_eq!(nothing.unwrap(), [""; 0]);
    let gate = DirectoryGate::explicit()
        .directory(root.join("elsewhere"))
        .directory(root.join("vm/../elsewhere"));
    let found = ask(&gate, &from, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found, paths(&root, &["elsewhere/far.vdi", "elsewhere/secret"]));
}

#[tokio::test]
async fn a_pipe_or_a_socket_is_no_place() {
    let (_dir, root) = machine();
    let pipe = root.join("elsewhere/pipe.vdi");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("elsewhere/s.vdi")).unwrap();
    let gate = DirectoryGate::explicit().directory(root.join("elsewhere"));
    let found = ask(&gate, &root.join("vm/base.vdi"), ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found, paths(&root, &["elsewhere/far.vdi", "elsewhere/secret"]));
}

#[tokio::test]
async fn names_that_are_no_text_are_places_too() {
    let (_dir, root) = machine();
    let folder = root.join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join(OsStr::from_bytes(b"\xff.vdi"));
    std::fs::write(&file, "content").unwrap();
    let child = folder.join(OsStr::from_bytes(b"child\xfe.vdi"));
    std::fs::write(&child, "").unwrap();
    let found = ask(&DirectoryGate::new(), &child, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found, [path::to_text(&file)]);
    let mut registry = block_core::Registry::new();
    block_file::register(&mut registry);
    let options = block_core::StorageOptions::new(block_core::StorageAccess::Read);
    let opened = registry.open_storage(&found[0], &options).await.unwrap();
    assert_eq!(opened.len().await.unwrap(), 7);
}

#[tokio::test]
async fn looking_is_bounded_and_the_answer_says_so() {
    let (_dir, root) = machine();
    for number in 0..50 {
        std::fs::write(root.join(format!("elsewhere/{number}.vdi")), "").unwrap();
    }
    let from = root.join("vm/base.vdi");
    let gate = DirectoryGate::explicit().directory(root.join("elsewhere"));
    let found = answer(&gate.clone().max_entries(10), &from, ReferenceBy::Uuid(PARENT)).await;
    let found = found.unwrap();
    assert_eq!(found.places.len(), 10);
    let elsewhere = paths(&root, &["elsewhere"]).remove(0);
    let missed = format!("only 10 directory entries were looked at, and '{elsewhere}' has more");
    assert_eq!(found.missed, [missed]);
    let all = ask(&gate.max_entries(52), &from, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(all.len(), 52);
}

#[tokio::test]
async fn a_directory_that_was_asked_for_and_cannot_be_read_is_missed() {
    let (_dir, root) = machine();
    let gate = DirectoryGate::explicit().directory(root.join("nowhere"));
    let found = answer(&gate, &root.join("vm/base.vdi"), ReferenceBy::Uuid(PARENT)).await.unwrap();
    let nowhere = paths(&root, &["nowhere"]).remove(0);
    let missed = format!("the directory '{nowhere}' could not be read: No such file or directory");
    assert_eq!((found.places, found.missed), (Vec::new(), vec![missed]));
}

#[tokio::test]
async fn a_name_leads_to_a_regular_file_inside_the_directory_or_nowhere() {
    let (_dir, root) = machine();
    let gate = DirectoryGate::new();
    let from = root.join("vm/child.vdi");
    std::fs::write(&from, "").unwrap();
    let found = ask(&gate, &from, name("Snapshots/sibling.vdi")).await.unwrap();
    assert_eq!(found, paths(&root, &["vm/Snapshots/sibling.vdi"]));
    let found = ask(&gate, &from, name("Snapshots\\sibling.vdi")).await.unwrap();
    assert_eq!(found, paths(&root, &["vm/Snapshots/sibling.vdi"]));
    let found = ask(&gate, &from, name("inside.vdi")).await.unwrap();
    assert_eq!(found, paths(&root, &["vm/base.vdi"]), "a link that stays inside is followed");
    for nowhere in ["link.vdi", "missing.vdi", "folder.vdi", "Snapshots"] {
        let error = ask(&gate, &from, name(nowhere)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{nowhere}");
    }
    let secret = root.join("elsewhere/secret");
    for denied in ["../elsewhere/secret", secret.to_str().unwrap(), "nbd://x/y", "json:{}", ""] {
        let error = ask(&gate, &from, name(denied)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{denied}");
        assert_eq!(error.image(), from.to_str());
    }
}

#[tokio::test]
async fn what_the_caller_names_stands_for_a_name_that_is_refused() {
    let (_dir, root) = machine();
    let far = paths(&root, &["elsewhere/far.vdi"]).remove(0);
    let gate = DirectoryGate::explicit().candidates_from([Candidate::found(far.clone())]);
    let found = ask(&gate, &root.join("vm/base.vdi"), name("C:\\Users\\me\\far.vdi")).await;
    assert_eq!(found.unwrap(), [far]);
}

#[tokio::test]
async fn an_image_that_is_no_file_has_no_directory() {
    let gate = DirectoryGate::new();
    let found = ask(&gate, Path::new("memory:"), ReferenceBy::Uuid(PARENT)).await;
    assert_eq!(found.unwrap(), [""; 0]);
}
