//! `wasi:filesystem` 0.3.

use wasip3::{
    filesystem::{
        preopens,
        types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
    wit_stream,
};

use crate::said;

type Answer = Result<String, String>;

pub fn root() -> Descriptor {
    preopens::get_directories().remove(0).0
}

/// As the preopened directory `/` has it.
fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

async fn open(path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, String> {
    root().open_at(PathFlags::empty(), relative(path), open, flags).await.map_err(said)
}

fn done(result: Result<(), ErrorCode>) -> Answer {
    result.map(|()| "done".into()).map_err(said)
}

async fn put(file: &Descriptor, bytes: Vec<u8>, offset: Option<u64>) -> Answer {
    let (mut sender, data) = wit_stream::new();
    let written = match offset {
        Some(offset) => file.write_via_stream(data, offset),
        None => file.append_via_stream(data),
    };
    // What was not taken, the future explains.
    sender.write_all(bytes).await;
    drop(sender);
    done(written.await)
}

pub async fn write(path: &str, bytes: Vec<u8>, offset: u64) -> Answer {
    let file = open(path, OpenFlags::CREATE, DescriptorFlags::WRITE).await?;
    put(&file, bytes, Some(offset)).await
}

pub async fn append(path: &str, bytes: Vec<u8>) -> Answer {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::WRITE).await?;
    put(&file, bytes, None).await
}

pub async fn read(path: &str) -> Result<Vec<u8>, String> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    let (data, ended) = file.read_via_stream(0);
    let bytes = data.collect().await;
    // A failure is never taken for an end.
    ended.await.map(|()| bytes).map_err(said)
}

/// More than any buffer on the way has, there and back.
pub async fn fill(path: &str, length: u64) -> Answer {
    let bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
    write(path, bytes.clone(), 0).await?;
    Ok((read(path).await? == bytes).to_string())
}

pub async fn list(path: &str) -> Answer {
    let folder = match relative(path).as_str() {
        "" => root(),
        path => open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await?,
    };
    let (entries, ended) = folder.read_directory();
    let mut names: Vec<String> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
    ended.await.map_err(said)?;
    names.sort();
    Ok(names.join(","))
}

pub async fn make_directory(path: &str) -> Answer {
    done(root().create_directory_at(relative(path)).await)
}

pub async fn remove_directory(path: &str) -> Answer {
    done(root().remove_directory_at(relative(path)).await)
}

pub async fn rename(from: &str, to: &str) -> Answer {
    let root = root();
    done(root.rename_at(relative(from), &root, relative(to)).await)
}

pub async fn remove(path: &str) -> Answer {
    done(root().unlink_file_at(relative(path)).await)
}

pub async fn link(from: &str, to: &str) -> Answer {
    let root = root();
    done(root.link_at(PathFlags::empty(), relative(from), &root, relative(to)).await)
}

pub async fn size(path: &str) -> Answer {
    let stat = root().stat_at(PathFlags::empty(), relative(path)).await.map_err(said)?;
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    assert_eq!(file.stat().await.map_err(said)?.size, stat.size);
    Ok(stat.size.to_string())
}

pub async fn cut(path: &str, length: u64) -> Answer {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::WRITE).await?;
    file.set_size(length).await.map_err(said)?;
    done(file.sync().await)
}

pub async fn write_what_is_open_for_reading(path: &str) -> Answer {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    put(&file, b"x".to_vec(), Some(0)).await
}

pub async fn open_many(path: &str) -> Answer {
    let mut open_files = Vec::new();
    loop {
        let name = format!("{path}/{}", open_files.len());
        open_files.push(open(&name, OpenFlags::CREATE, DescriptorFlags::WRITE).await?);
    }
}
