//! The gate: which files an image may lead to.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use block_core::{Candidate, ErrorKind, Gate, Reference, ReferenceBy, Result};
use block_file::DirectoryGate;
use uuid::Uuid;

const PARENT: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

/// A machine as VirtualBox lays it out, an outsider, and a link that leads to it.
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

async fn ask(gate: &DirectoryGate, from: &Path, by: ReferenceBy) -> Result<Vec<String>> {
    let reference = Reference { from: from.to_str().unwrap().to_owned(), by };
    let found = gate.candidates(&reference).await?;
    Ok(found.into_iter().map(|candidate| candidate.uri).collect())
}

fn name(name: &str) -> ReferenceBy {
    ReferenceBy::Name { name: name.to_owned(), format: None }
}

fn paths(root: &Path, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_uuid_is_looked_for_where_virtualbox_keeps_images() {
    let (_dir, root) = machine();
    let gate = DirectoryGate::new();
    let found = ask(&gate, &root.join("vm/Snapshots/child.vdi"), ReferenceBy::Uuid(PARENT)).await;
    let expected = ["vm/Snapshots/sibling.vdi", "vm/Other.VDI", "vm/base.vdi"];
    assert_eq!(found.unwrap(), paths(&root, &expected));

    let found = ask(&gate, &root.join("vm/base.vdi"), ReferenceBy::Uuid(PARENT)).await;
    let expected = ["vm/Other.VDI", "vm/Snapshots/child.vdi", "vm/Snapshots/sibling.vdi"];
    assert_eq!(found.unwrap(), paths(&root, &expected));
}

#[tokio::test]
async fn a_file_named_by_the_uuid_comes_first_but_after_what_the_caller_names() {
    let (_dir, root) = machine();
    let named = format!("vm/{{{PARENT}}}.vdi");
    std::fs::write(root.join(&named), "").unwrap();
    let gate = DirectoryGate::new()
        .candidate(Candidate { uri: "nbd:there".into(), format: Some("vdi".into()) });
    let from = root.join("vm/Snapshots/child.vdi");
    let found = ask(&gate, &from, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found[0], "nbd:there");
    assert_eq!(found[1], paths(&root, &[&named])[0]);
    assert_eq!(found.len(), 5);
}

#[tokio::test]
async fn only_allowed_places_are_looked_at() {
    let (_dir, root) = machine();
    let from = root.join("vm/base.vdi");
    let nothing = ask(&DirectoryGate::explicit(), &from, ReferenceBy::Uuid(PARENT)).await;
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::NotFound);
    let gate = DirectoryGate::explicit().directory(root.join("elsewhere"));
    let found = ask(&gate, &from, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found, paths(&root, &["elsewhere/far.vdi"]));
    let gate = gate.extensions(["TXT"]).directory(root.join("vm"));
    let found = ask(&gate, &from, ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert_eq!(found, paths(&root, &["vm/notes.txt"]));
}

#[tokio::test]
async fn looking_is_bounded() {
    let (_dir, root) = machine();
    for number in 0..50 {
        std::fs::write(root.join(format!("elsewhere/{number}.vdi")), "").unwrap();
    }
    let gate = DirectoryGate::explicit().directory(root.join("elsewhere")).max_entries(10);
    let found = ask(&gate, &root.join("vm/base.vdi"), ReferenceBy::Uuid(PARENT)).await.unwrap();
    assert!((8..=10).contains(&found.len()), "{}", found.len());
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
    let gate =
        DirectoryGate::explicit().candidates_from([Candidate { uri: far.clone(), format: None }]);
    let found = ask(&gate, &root.join("vm/base.vdi"), name("C:\\Users\\me\\far.vdi")).await;
    assert_eq!(found.unwrap(), [far]);
}

#[tokio::test]
async fn an_image_that_is_no_file_has_no_directory() {
    let gate = DirectoryGate::new().extensions(["toml"]);
    let found = ask(&gate, Path::new("memory:"), ReferenceBy::Uuid(PARENT)).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound);
}
