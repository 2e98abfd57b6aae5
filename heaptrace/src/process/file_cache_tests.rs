//! Where the cache may be.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use tempfile::TempDir;

fn opened(path: &Path) -> bool {
    FileCache::open(path, 1 << 20).is_ok()
}

/// A home with a folder for caches.
fn home() -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a home");
    let caches = home.path().join(".cache");
    fs::create_dir(&caches).expect("folder");
    fs::set_permissions(&caches, fs::Permissions::from_mode(0o755)).expect("mode");
    (home, caches)
}

#[test]
fn the_folder_is_made_in_a_folder_of_ours() {
    let (_home, caches) = home();
    let cache = caches.join("heaptrace");
    assert!(opened(&cache) && opened(&cache));
    assert_eq!(fs::metadata(&cache).expect("made").mode() & 0o777, 0o700);
    assert!(opened(&caches.join("not there").join("heaptrace")));
    assert!(!opened(Path::new("heaptrace")));
    assert!(!opened(&caches.join("..").join("heaptrace")));
}

#[test]
fn nothing_is_made_where_a_link_leads() {
    let (home, caches) = home();
    let link = home.path().join("link");
    symlink(&caches, &link).expect("link");
    assert!(!opened(&link.join("heaptrace")));
    // Nor further down.
    fs::create_dir(caches.join("below")).expect("folder");
    assert!(!opened(&link.join("below").join("heaptrace")));
    assert!(!caches.join("heaptrace").exists() && !caches.join("below/heaptrace").exists());
    symlink(home.path(), caches.join("heaptrace")).expect("link");
    assert!(!opened(&caches.join("heaptrace")));
}

#[test]
fn nothing_is_made_where_others_may_change_the_way() {
    let (home, caches) = home();
    let cache = caches.join("heaptrace");
    for folder in [home.path(), &caches] {
        let before = fs::metadata(folder).expect("folder").permissions();
        for mode in [0o777, 0o770, 0o702] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("mode");
            assert!(!opened(&cache), "{mode:o}");
        }
        assert!(!cache.exists());
        fs::set_permissions(folder, before).expect("mode");
    }
    fs::set_permissions(&caches, fs::Permissions::from_mode(0o1777)).expect("mode");
    assert!(opened(&cache), "others cannot rename what is ours in a folder like /tmp");
}

#[test]
fn nothing_is_made_in_what_is_anothers() {
    let (home, caches) = home();
    for folder in [home.path(), &caches] {
        // Only root can give a folder away.
        if chown(folder, Some(65_534), None).is_err() {
            return;
        }
        assert!(!opened(&caches.join("heaptrace")));
        assert!(!caches.join("heaptrace").exists());
        chown(folder, Some(0), None).expect("back");
    }
}
