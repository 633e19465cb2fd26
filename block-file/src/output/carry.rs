//! Copies metadata to a replacing file: owner, group, attributes and permissions.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::InPlace;
use crate::io::retry;

/// Permission bits to copy. Set-user-ID, set-group-ID and sticky bits are not copied, because the new content comes
/// from elsewhere.
const PERMISSIONS: u32 = 0o777;

/// The attribute that holds an access control list.
const ACL: &CStr = c"system.posix_acl_access";

/// Attributes that vouch for the old content or give it privileges.
const OF_THE_CONTENT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// Greatest size of one attribute, and of the list of names, in bytes: the kernel's own limit.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Bytes enough for nearly all attributes.
const FEW_BYTES: usize = 512;

/// Copies owner, group, attributes and permissions from `old` to `new`, in this order because each may change the next.
pub(super) fn carry(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), InPlace> {
    let wanted = retry(|| rustix::fs::fstat(old)).map_err(|_| InPlace::Owner)?;
    let made = retry(|| rustix::fs::fstat(new)).map_err(|_| InPlace::Owner)?;
    let owner = (wanted.st_uid != made.st_uid).then(|| Uid::from_raw(wanted.st_uid));
    let group = (wanted.st_gid != made.st_gid).then(|| Gid::from_raw(wanted.st_gid));
    if owner.is_some() || group.is_some() {
        retry(|| rustix::fs::fchown(new, owner, group)).map_err(|_| InPlace::Owner)?;
    }
    carry_attributes(old, new)?;
    let mode = Mode::from_raw_mode(wanted.st_mode & PERMISSIONS);
    retry(|| rustix::fs::fchmod(new, mode)).map_err(|_| InPlace::Owner)
}

fn carry_attributes(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), InPlace> {
    let mut has_acl = false;
    for name in names(old)? {
        if OF_THE_CONTENT.contains(&name.as_c_str()) {
            continue;
        }
        has_acl |= name.as_c_str() == ACL;
        let lost = || InPlace::Attribute(name.to_string_lossy().into_owned());
        let wanted = value(old, &name).map_err(|_| lost())?;
        if value(new, &name).is_ok_and(|has| has == wanted) {
            continue;
        }
        retry(|| rustix::fs::fsetxattr(new, name.as_c_str(), &wanted, XattrFlags::empty()))
            .map_err(|_| lost())?;
    }
    if !has_acl {
        // The folder's default list may have given the new file a list that the old file does not have.
        match retry(|| rustix::fs::fremovexattr(new, ACL)) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(_) => return Err(InPlace::Attribute(ACL.to_string_lossy().into_owned())),
        }
    }
    Ok(())
}

fn names(file: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>, InPlace> {
    let list = match whole(|list| rustix::fs::flistxattr(file, list)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Vec::new(),
        Err(_) => return Err(InPlace::Attribute("(they cannot be listed)".to_owned())),
    };
    let names = list.split_inclusive(|byte| *byte == 0);
    Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok().map(CStr::to_owned)).collect())
}

fn value(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    whole(|value| rustix::fs::fgetxattr(file, name, value))
}

/// Returns what `read` writes to a buffer. Calls it again with a larger buffer if the first is too small.
fn whole(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; FEW_BYTES];
    let mut len = retry(|| read(&mut bytes));
    if len == Err(Errno::RANGE) {
        bytes.resize(MAX_ATTRIBUTE, 0);
        len = retry(|| read(&mut bytes));
    }
    bytes.truncate(len?);
    Ok(bytes)
}

/// Removes the set-user-ID and set-group-ID bits of a file that is written in place. If the caller may not do that, the
/// kernel removes them at the first write.
pub(super) fn drop_set_id(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(retry(|| rustix::fs::fstat(file))?.st_mode);
    if !mode.intersects(Mode::SUID | Mode::SGID) {
        return Ok(());
    }
    match retry(|| rustix::fs::fchmod(file, mode - Mode::SUID - Mode::SGID)) {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        changed => changed,
    }
}
