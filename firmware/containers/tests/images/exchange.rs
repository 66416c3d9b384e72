//! Blobs between two stores.

use std::{
    collections::BTreeSet,
    fs, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bramble_cluster::{Digest, ImageName, chain};
use bramble_containers::images::{FetchError, ImageStore, Progress, StoredImage};
use serde_json::json;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use crate::{
    archives::{Tar, descriptor, gzip, hex_of, image, image_for, oci, oci_of, plain},
    scene::Scene,
};

fn names() -> BTreeSet<ImageName> {
    BTreeSet::from(["app:1".parse().unwrap()])
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A store that holds an image of some hundred kilobytes.
fn holder() -> (Scene, StoredImage) {
    let scene = Scene::new();
    let layers =
        [Tar::new().file("large", &noise(600_000)).end(), Tar::new().file("small", b"x").end()];
    let image = scene.load(&oci(&image(&layers, plain), Some("app:1"))).unwrap().remove(0);
    (scene, image)
}

/// A stream to a store that serves it.
fn serve(store: &ImageStore) -> DuplexStream {
    let (here, there) = duplex(1 << 20);
    let store = store.clone();
    tokio::spawn(async move {
        let _ = store.serve(there).await;
    });
    here
}

/// A stream that is cut when so many bytes have come in, and counts them.
struct Cut {
    inner: DuplexStream,
    left: u64,
    passed: Arc<AtomicU64>,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut part = vec![0; room];
        let mut part = ReadBuf::new(&mut part);
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        buffer.put_slice(part.filled());
        self.left -= part.filled().len() as u64;
        self.passed.fetch_add(part.filled().len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Fetches over streams of which the n-th is cut after `cuts[n]` bytes, the others never. Returns
/// how many bytes came, over how many streams.
async fn fetch_with_cuts(
    from: &ImageStore,
    to: &ImageStore,
    image: Digest,
    cuts: &[u64],
) -> (Result<StoredImage, FetchError>, u64, usize) {
    let (count, passed) = (AtomicUsize::new(0), Arc::new(AtomicU64::new(0)));
    let connect = |_: &str| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let left = cuts.get(number).copied().unwrap_or(u64::MAX);
        let stream = Cut { inner: serve(from), left, passed: Arc::clone(&passed) };
        async move { Ok(stream) }
    };
    let result = to.fetch(image, names(), vec!["holder"], connect, |_| {}).await;
    (result, passed.load(Ordering::Relaxed), count.into_inner())
}

#[tokio::test]
async fn an_image_comes_whole_with_progress_and_its_names() {
    let (from, image) = holder();
    let to = Scene::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let connect = |_: &str| {
        let stream = serve(&from.store);
        async move { Ok(stream) }
    };
    let progress = move |progress| tell.lock().unwrap().push(progress);
    let fetched =
        to.store.fetch(image.digest, names(), vec!["holder"], connect, progress).await.unwrap();
    assert_eq!(fetched.blobs, image.blobs);
    assert_eq!(fetched.names, image.names);
    assert_eq!(fetched.named_at.as_millis(), 0, "nobody named it here");
    let large = to.layer(image.layers[0]).join("large");
    assert_eq!(fs::read(large).unwrap(), noise(600_000));
    let told = told.lock().unwrap().clone();
    let last = told.iter().rev().find_map(|progress| match progress {
        Progress::Fetching { bytes, total } => Some((*bytes, *total)),
        _ => None,
    });
    let (bytes, total) = last.unwrap();
    assert_eq!(bytes, total);
    assert!(told.contains(&Progress::Unpacking { layer: 2, layers: 2 }));
    // What is here needs nobody.
    let nobody = |_: &str| async { Err::<DuplexStream, _>(io::Error::other("must not be asked")) };
    to.store.fetch(image.digest, names(), vec![], nobody, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_transfer_that_is_cut_anywhere_goes_on_from_there() {
    let (from, image) = holder();
    let whole = {
        let to = Scene::new();
        let (result, whole, streams) =
            fetch_with_cuts(&from.store, &to.store, image.digest, &[]).await;
        result.unwrap();
        assert_eq!(streams, 1);
        whole
    };
    // Frame boundaries: after each length, begin, chunk and end, as they come for every blob.
    let mut boundaries = BTreeSet::from([0, 1, 3]);
    let mut at = 0;
    let mut sizes = vec![image.blobs[&image.manifest], image.blobs[&image.id]];
    sizes.extend(image.blobs.values().filter(|size| **size > 1_000).copied());
    for size in sizes {
        at += 4 + postcard::to_stdvec(&(0u8, size)).unwrap().len() as u64;
        boundaries.insert(at);
        for start in (0..size).step_by(128 * 1024) {
            let length = (size - start).min(128 * 1024);
            at += 4 + 1 + postcard::to_stdvec(&length).unwrap().len() as u64 + length;
            boundaries.extend([at - length, at - length / 2, at]);
        }
        at += 5;
        boundaries.extend([at - 1, at]);
    }
    boundaries.retain(|boundary| *boundary < whole);
    assert!(boundaries.len() > 20, "{boundaries:?}");
    for cut in boundaries {
        let to = Scene::new();
        let (result, passed, streams) =
            fetch_with_cuts(&from.store, &to.store, image.digest, &[cut]).await;
        let text = |error| format!("cut at {cut}: {}", chain(&error));
        assert_eq!(result.map_err(text).unwrap().blobs, image.blobs);
        assert_eq!(streams, 2, "cut at {cut}");
        // What came before the cut did not come again, but for the frame that was cut.
        assert!(passed <= whole + 128 * 1024 + 200, "cut at {cut}: {passed} of {whole}");
        assert_eq!(fs::read_dir(to.images().join("partial")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_fetch_that_failed_is_gone_on_with_by_another_process() {
    let (from, image) = holder();
    let mut to = Scene::new();
    let cuts = [400_000, 0, 0, 0, 0];
    let (result, first, _) = fetch_with_cuts(&from.store, &to.store, image.digest, &cuts).await;
    let error = chain(&result.unwrap_err());
    assert!(error.contains("holder: the connection was cut"), "{error}");
    assert!(to.store.list().is_empty());
    to.reopen();
    let (result, second, _) = fetch_with_cuts(&from.store, &to.store, image.digest, &[]).await;
    result.unwrap();
    let whole: u64 = image.size();
    assert!(first + second < whole + 200_000, "{first} + {second} of {whole}");
}

/// A holder that answers every request with one frame after another, whatever was asked.
fn liar(frames: Vec<Vec<u8>>) -> DuplexStream {
    let (here, mut there) = duplex(1 << 20);
    tokio::spawn(async move {
        let mut request = [0; 200];
        while there.read(&mut request).await.is_ok_and(|count| count > 0) {
            for frame in &frames {
                let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
                if there.write_all(&[&length[..], frame].concat()).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    here
}

#[tokio::test]
async fn holders_that_lie_are_passed_over() {
    let (from, image) = holder();
    let begin = |size: u64| postcard::to_stdvec(&(0u8, size)).unwrap();
    let chunk = |bytes: &[u8]| postcard::to_stdvec(&(1u8, bytes)).unwrap();
    let (end, missing) = (vec![2], vec![3]);
    let failed = postcard::to_stdvec(&(4u8, "broken card")).unwrap();
    let lies = [
        (vec![begin(5), chunk(b"other"), end.clone()], "another digest"),
        (vec![begin(u64::MAX), chunk(b"other")], "by that digest"),
        (vec![begin(3), chunk(b"more than three")], "protocol"),
        (vec![begin(30), chunk(b"less"), end.clone()], "protocol"),
        (vec![chunk(b"at once")], "protocol"),
        (vec![end], "protocol"),
        (vec![missing], "does not have it"),
        (vec![failed], "broken card"),
        (vec![vec![99, 1, 2]], "another language"),
        (vec![vec![0; 300_000]], "a frame of 300000 bytes"),
    ];
    for (frames, reason) in lies {
        let to = Scene::new();
        let before = to.fingerprint();
        let connect = |holder: &'static str| {
            let stream = match holder {
                "liar" => Ok(liar(frames.clone())),
                "honest" => Ok(serve(&from.store)),
                _ => Err(io::Error::other("no route")),
            };
            async move { stream }
        };
        let alone =
            to.store.fetch(image.digest, names(), vec!["liar", "gone"], connect, |_| {}).await;
        let error = chain(&alone.unwrap_err());
        assert!(error.contains(reason) && error.contains("gone: no route"), "{error}");
        assert!(to.store.list().is_empty(), "a lie was believed");
        assert!(to.fingerprint().len() <= before.len() + 1, "at most a partial download stays");
        let holders = vec!["gone", "liar", "honest"];
        let fetched = to.store.fetch(image.digest, names(), holders, connect, |_| {}).await;
        assert_eq!(fetched.unwrap().blobs, image.blobs);
    }
}

#[tokio::test]
async fn a_server_survives_whatever_is_sent_to_it() {
    let (from, _) = holder();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 9], &[0xff; 100], &[0, 0, 0, 0]] {
        let (mut here, there) = duplex(1 << 16);
        let store = from.store.clone();
        let served = tokio::spawn(async move { store.serve(there).await });
        here.write_all(bytes).await.unwrap();
        here.shutdown().await.unwrap();
        assert!(served.await.unwrap().is_err());
    }
    // A request beyond the end, and one for what is not there, on one stream.
    let (mut here, there) = duplex(1 << 16);
    let store = from.store.clone();
    let served = tokio::spawn(async move { store.serve(there).await });
    let manifest = from.store.list()[0].manifest;
    for (digest, offset, answer) in [(manifest, u64::MAX, 4), (Digest::default(), 0, 3)] {
        let request = postcard::to_stdvec(&(0u8, digest, offset)).unwrap();
        let length = u32::try_from(request.len()).unwrap().to_be_bytes();
        here.write_all(&[&length[..], &request].concat()).await.unwrap();
        let length = here.read_u32().await.unwrap();
        let mut reply = vec![0; length as usize];
        here.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[0], answer);
    }
    drop(here);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn of_several_platforms_only_ones_own_is_fetched() {
    let native = bramble_containers::images::native_platform().architecture;
    let layer = |text: &str| vec![Tar::new().file("file", text.as_bytes()).end()];
    let mine = image_for(&layer("mine"), gzip, &native);
    let other = image_for(&layer("other"), gzip, "riscv64");
    let platforms = [("riscv64", &other), (native.as_str(), &mine)].map(|(name, parts)| {
        let mut one = descriptor(parts, None);
        one["platform"] = json!({"os": "linux", "architecture": name});
        one
    });
    let index = json!({"schemaVersion": 2, "manifests": platforms}).to_string().into_bytes();
    let root = json!({"digest": format!("sha256:{}", hex_of(&index)), "size": index.len()});
    let mut blobs = mine.blobs.clone();
    blobs.extend(other.blobs.clone());
    blobs.insert(hex_of(&index), index);
    let (from, to) = (Scene::new(), Scene::new());
    let image = from.load(&oci_of(&blobs, &[root]).end()).unwrap().remove(0);
    assert_eq!(image.blobs.len(), blobs.len());
    let (fetched, _, _) = fetch_with_cuts(&from.store, &to.store, image.digest, &[]).await;
    let fetched = fetched.unwrap();
    assert_eq!((fetched.digest, fetched.manifest), (image.digest, image.manifest));
    assert_eq!(fetched.blobs.len(), mine.blobs.len() + 1);
}

#[tokio::test]
async fn those_who_want_the_same_image_share_one_transfer() {
    let (from, image) = holder();
    let to = Scene::new();
    let mut tasks = tokio::task::JoinSet::new();
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let (from, to, count) = (from.store.clone(), to.store.clone(), Arc::clone(&count));
        tasks.spawn(async move {
            let connect = |_: &'static str| {
                count.fetch_add(1, Ordering::Relaxed);
                let stream = serve(&from);
                async move { Ok(stream) }
            };
            to.fetch(image.digest, names(), vec!["holder"], connect, |_| {}).await.unwrap();
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_image_that_is_fetched_takes_no_name_that_a_person_gave() {
    let (from, old) = holder();
    let to = Scene::new();
    let new = image(&[Tar::new().file("new", b"x").end()], plain);
    let new = to.load(&oci(&new, Some("app:1"))).unwrap().remove(0);
    let (fetched, _, _) = fetch_with_cuts(&from.store, &to.store, old.digest, &[]).await;
    assert!(fetched.unwrap().names.is_empty());
    assert_eq!(to.store.resolve("app:1").unwrap().digest, new.digest);
    // Fetched again under a name that is free, it gets that too; loaded by a person, it gets his.
    let names = BTreeSet::from(["app:old".parse().unwrap()]);
    let connect = |_: &str| async { Err::<DuplexStream, _>(io::Error::other("not needed")) };
    to.store.fetch(old.digest, names, vec![], connect, |_| {}).await.unwrap();
    assert_eq!(to.store.resolve("app:old").unwrap().digest, old.digest);
    to.store.tag(old.digest, "app:1".parse().unwrap()).await.unwrap();
    assert_eq!(to.store.resolve("app:1").unwrap().digest, old.digest);
}
