use super::{Digest, FRAME_BYTES, Reply, Request, receive, send};

#[test]
fn frames_are_frozen() {
    let encode = |value| hex::encode(postcard::to_stdvec(value).unwrap());
    let request = Request::Blob { digest: Digest::from_bytes([7; 32]), offset: 300 };
    let bytes = hex::encode(postcard::to_stdvec(&request).unwrap());
    assert_eq!(bytes, format!("00{}ac02", "07".repeat(32)));
    assert_eq!(encode(&Reply::Begin { size: 300 }), "00ac02");
    assert_eq!(encode(&Reply::Chunk(b"abc")), "0103616263");
    assert_eq!(encode(&Reply::End), "02");
    assert_eq!(encode(&Reply::Missing), "03");
    assert_eq!(encode(&Reply::Failed("no")), "04026e6f");
}

#[tokio::test]
async fn a_frame_reads_back_and_an_end_between_frames_is_an_end() {
    let (mut here, mut there) = tokio::io::duplex(64);
    let mut buffer = Vec::new();
    send(&mut here, &mut buffer, &Reply::Chunk(b"abc")).await.unwrap();
    assert_eq!(buffer[..4], [0, 0, 0, 5]);
    drop(here);
    let patience = std::time::Duration::from_secs(1);
    assert!(receive(&mut there, &mut buffer, patience).await.unwrap());
    assert_eq!(postcard::from_bytes::<Reply>(&buffer).unwrap(), Reply::Chunk(b"abc"));
    assert!(!receive(&mut there, &mut buffer, patience).await.unwrap());
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_late_or_cut_is_refused() {
    use tokio::io::AsyncWriteExt;
    let patience = std::time::Duration::from_millis(50);
    let mut buffer = Vec::new();
    let (mut here, mut there) = tokio::io::duplex(64);
    let length = u32::try_from(FRAME_BYTES + 1).unwrap();
    here.write_all(&length.to_be_bytes()).await.unwrap();
    let error = receive(&mut there, &mut buffer, patience).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(buffer.capacity() < FRAME_BYTES, "nothing was made room for");
    let error = receive(&mut there, &mut buffer, patience).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    here.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    drop(here);
    let error = receive(&mut there, &mut buffer, patience).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}
