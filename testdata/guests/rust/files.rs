//! Files through Rust's standard library: buffered reading and writing, seeking,
//! directories, metadata, renaming and removing.
//!
//! Usage: rust-files [ROUNDS [DIR]]. One line a round. One file stays open from
//! the first round to the last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const START: u64 = 0xcbf29ce484222325;

fn digest(h: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(h, |h, b| (h ^ *b as u64).wrapping_mul(0x100000001b3))
}

fn listing(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        names.push((entry.file_name().to_string_lossy().into_owned(), if meta.is_file() { meta.len() } else { 0 }));
    }
    names.sort();
    Ok(names)
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1000);
    let dir = args.next().unwrap_or_else(|| "/".to_string());
    let dir = Path::new(&dir);
    let mut held = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.join("held"))?;
    for round in 0..rounds {
        let sub = dir.join(format!("sub-{}", round % 3));
        fs::create_dir_all(&sub)?;
        let mut w = BufWriter::new(File::create(sub.join("new"))?);
        for i in 0..200 {
            writeln!(w, "{} {} {:.6}", round, i, (round as f64 * 0.37 + i as f64).sqrt())?;
        }
        w.into_inner()?.sync_all()?;
        fs::rename(sub.join("new"), sub.join(format!("old-{}", round % 4)))?;

        let mut h = START;
        let mut n = 0;
        for line in BufReader::new(File::open(sub.join(format!("old-{}", round % 4)))?).lines() {
            h = digest(h, line?.as_bytes());
            n += 1;
        }

        held.write_all(&h.to_le_bytes())?;
        let end = held.stream_position()?;
        held.seek(SeekFrom::Start(end / 2 / 8 * 8))?;
        let mut middle = [0; 8];
        held.read_exact(&mut middle)?;
        held.seek(SeekFrom::Start(end))?;
        h = digest(h, &middle);

        if round % 5 == 4 {
            fs::remove_dir_all(&sub)?;
        }
        let missing = File::open(dir.join("missing")).map(|_| ()).map_err(|e| e.kind());
        println!("{} lines={} end={} {:?} {:?} {:016x}", round, n, end, missing, listing(dir)?, h);
    }
    let mut all = Vec::new();
    held.seek(SeekFrom::Start(0))?;
    held.read_to_end(&mut all)?;
    println!("digest {:016x}", digest(START, &all));
    Ok(())
}
