//! Children that continue this program.

use super::*;

#[test]
fn a_script_masks_itself() {
    let _alone = alone();
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: the only thread of this child.
        let loaded = unsafe { shoal::device::set_visible("cuda", "1-2").unwrap() };
        assert!(!loaded, "no test loads CUDA");
        assert_eq!(std::env::var("CUDA_VISIBLE_DEVICES").unwrap(), "1,2");
        assert_eq!(std::env::var("CUDA_DEVICE_ORDER").unwrap(), "PCI_BUS_ID");
        // SAFETY: as above.
        unsafe { shoal::device::set_visible("cuda", "2").unwrap_err() };
        assert_eq!(std::env::var("CUDA_VISIBLE_DEVICES").unwrap(), "1,2");
        0
    });
    assert_eq!(join(&child), exited(0));
}

#[test]
fn a_forked_child_exits_with_what_its_entry_returns() {
    let _alone = alone();
    for (code, seen) in [(0, 0), (9, 9), (259, 3), (-1, 255)] {
        assert_eq!(
            join(&forked(&ForkOptions::default(), || code)),
            exited(seen)
        );
    }
    let child = forked(&ForkOptions::default(), || {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("on purpose")
    });
    assert_eq!(join(&child), exited(101));
}

#[test]
fn buffered_output_is_written_once() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: C strings; the grandchild copies what this one has not flushed.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::printf(c"before,".as_ptr());
            let grandchild = forked(&ForkOptions::default(), || {
                libc::printf(c"within,".as_ptr());
                0
            });
            join(&grandchild);
            libc::printf(c"after".as_ptr());
        }
        0
    });
    assert_eq!(join(&child), exited(0));
    std::mem::drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before,within,after");
}

#[test]
fn a_forked_child_leads_its_group_when_asked() {
    let _alone = alone();
    let options = ForkOptions {
        new_group: true,
        ..Default::default()
    };
    let child = forked(&options, || {
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::getpgid(child.pid()) }, child.pid());
    child.signal_group(libc::SIGTERM).unwrap();
    assert_eq!(join(&child), signaled(libc::SIGTERM));
}

#[test]
fn a_wrong_mask_forks_nothing() {
    let _alone = alone();
    let options = ForkOptions {
        devices: vec![("cuda".into(), "0,0".into())],
        ..Default::default()
    };
    // SAFETY: the entry never runs.
    let err = unsafe { fork(&options, || 0).unwrap_err() };
    assert!(matches!(err, Error::Invalid { .. }));
    assert!(!has_children());
}

#[test]
fn a_forked_copy_waits_for_a_child_that_is_not_its_own() {
    let _alone = alone();
    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    let copy = forked(&ForkOptions::default(), || {
        assert_eq!(child.try_join(), Ok(None));
        assert!(child.signal_group(9).is_err());
        child.kill().unwrap();
        assert_eq!(join(&child).kind, ExitKind::Unknown);
        0
    });
    assert_eq!(join(&copy), exited(0));
    // The parent still gets the correct result.
    assert_eq!(join(&child), signaled(libc::SIGKILL));
}
