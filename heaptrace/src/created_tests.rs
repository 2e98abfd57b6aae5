//! What others may have left at the place of an output.

use super::*;
use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use tempfile::TempDir;

fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn why(path: &Path) -> String {
    place(path).expect_err("refused").to_string()
}

#[test]
fn a_pipe_is_written_to_if_somebody_reads_it_and_else_refused_at_once() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("pipe");
    fifo(&path);
    assert_eq!(why(&path), "nobody reads this pipe");
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).clone();
    let mut reader = options.open(&path).expect("reader");
    let Place::Stream(mut file) = place(&path).expect("a reader is there") else { panic!("a file") };
    file.write_all(b"x").expect("write");
    drop(file);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("read");
    assert_eq!(read, "x");
}

#[test]
fn devices_are_written_to_by_their_own_name_only() {
    let dir = TempDir::new().expect("directory");
    assert!(matches!(place(Path::new("/dev/null")), Ok(Place::Stream(_))));
    let link = dir.path().join("link");
    symlink("/dev/null", &link).expect("link");
    assert_eq!(why(&link), "it is a link to what is no file; name that itself");
    assert_eq!(why(dir.path()), "it is a folder");
}

#[test]
fn a_descriptor_is_appended_to_and_its_name_stays() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("file");
    fs::write(&path, "before").expect("write");
    let file = File::open(&path).expect("open");
    let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let Place::Stream(mut out) = place(Path::new(&name)).expect("a descriptor") else { panic!("a file") };
    out.write_all(b", behind").expect("write");
    assert_eq!(fs::read(&path).expect("read"), b"before, behind");
    assert!(is_descriptor(Path::new("/dev/stdout")));
}

#[test]
fn a_new_file_replaces_links_and_files_and_is_its_owners() {
    let dir = TempDir::new().expect("directory");
    let (path, elsewhere) = (dir.path().join("out"), dir.path().join("elsewhere"));
    fs::write(&elsewhere, "another's").expect("write");
    symlink(&elsewhere, &path).expect("link");
    assert!(matches!(place(&path), Ok(Place::File)));
    let mut new = NewFile::beside(&path).expect("new");
    new.file.write_all(b"ours").expect("write");
    assert!(fs::symlink_metadata(&path).expect("link").is_symlink(), "it is untouched before");
    new.name().expect("rename");
    drop(new);
    assert_eq!(fs::read(&elsewhere).expect("elsewhere"), b"another's");
    assert_eq!(fs::read(&path).expect("ours"), b"ours");
    let here = fs::symlink_metadata(&path).expect("metadata");
    assert!(here.is_file() && here.permissions().mode() & 0o777 == 0o600);
    drop(NewFile::beside(&path).expect("new"));
    assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 2, "nothing is left");
}

#[test]
fn what_is_read_is_no_pipe_or_device_that_others_lead_to() {
    let dir = TempDir::new().expect("directory");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "contents").expect("write");
    symlink(at("file"), at("link")).expect("link");
    fifo(&at("pipe"));
    symlink(at("pipe"), at("to a pipe")).expect("link");
    symlink("/dev/zero", at("to a device")).expect("link");
    for name in ["file", "link"] {
        let mut read = String::new();
        open(&at(name)).and_then(|mut file| file.read_to_string(&mut read)).expect("read");
        assert_eq!(read, "contents");
    }
    for name in ["to a pipe", "to a device", ""] {
        assert_eq!(open(&at(name)).expect_err(name).kind(), io::ErrorKind::InvalidInput, "{name}");
    }
    assert_eq!(open(&at("missing")).expect_err("missing").kind(), io::ErrorKind::NotFound);
    assert!(open(Path::new("/dev/null")).is_ok(), "a device by its own name");
}

#[test]
fn a_pipe_of_ours_is_read_and_one_that_another_left_for_all_is_not() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("pipe");
    fifo(&path);
    let there = path.clone();
    let writer = std::thread::spawn(move || fs::write(there, "written"));
    let mut read = String::new();
    open(&path).and_then(|mut pipe| pipe.read_to_string(&mut read)).expect("read");
    assert_eq!(read, "written");
    writer.join().expect("no panic").expect("write");
    // Only root gives files away.
    if own_uid() == 0 {
        std::os::unix::fs::chown(&path, Some(64_902), None).expect("chown");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).expect("mode");
        assert_eq!(open(&path).expect_err("another's").kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn files_are_the_same_by_what_they_are_and_not_by_their_names() {
    let dir = TempDir::new().expect("directory");
    let (file, link, other) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("other"));
    fs::write(&file, "").expect("write");
    fs::write(&other, "").expect("write");
    symlink(&file, &link).expect("link");
    assert!(is_same_file(&file, &link) && !is_same_file(&file, &other));
    let missing = dir.path().join("missing");
    assert!(!is_same_file(&missing, &missing));
}

#[test]
fn a_folder_of_our_own_is_made_and_one_that_others_can_look_into_is_refused() {
    let outer = tempfile::TempDir::new().expect("a folder");
    let path = outer.path().join("own");
    own_folder(&path).expect("made");
    own_folder(&path).expect("there");
    fs::write(path.join("x"), "").expect("written");
    assert_eq!(own_entries(&path).expect("entries"), [path.join("x")]);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opened");
    assert!(own_folder(&path).is_err() && own_entries(&path).is_err());
    let link = outer.path().join("link");
    std::os::unix::fs::symlink(outer.path(), &link).expect("a link");
    assert!(own_folder(&link).is_err());
}
