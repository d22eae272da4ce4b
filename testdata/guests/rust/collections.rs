//! BTreeMap, HashMap, String, trait objects, closures and f64 in Rust.
//!
//! Usage: rust-collections [ROUNDS [FILE]]. One line a round, also to FILE.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io::{self, Write};
use std::rc::Rc;

/// splitmix64: the same sequence for every engine and every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
        z ^ z >> 31
    }
}

trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> String;
}

struct Circle(f64);
struct Polygon(Vec<(f64, f64)>);

impl Shape for Circle {
    fn area(&self) -> f64 {
        std::f64::consts::PI * self.0 * self.0
    }
    fn name(&self) -> String {
        format!("circle {:.3}", self.0)
    }
}

impl Shape for Polygon {
    fn area(&self) -> f64 {
        let n = self.0.len();
        let twice: f64 = (0..n)
            .map(|i| {
                let ((x, y), (u, v)) = (self.0[i], self.0[(i + 1) % n]);
                x * v - u * y
            })
            .sum();
        twice.abs() / 2.0
    }
    fn name(&self) -> String {
        format!("polygon {}", self.0.len())
    }
}

fn digest<T: Hash>(value: &T) -> u64 {
    let mut h = DefaultHasher::new();
    value.hash(&mut h);
    h.finish()
}

fn shapes(r: &mut Random) -> Vec<Rc<dyn Shape>> {
    (0..200)
        .map(|_| -> Rc<dyn Shape> {
            let n = r.next();
            if n % 3 == 0 {
                Rc::new(Circle((n >> 32) as f64 / 65536.0))
            } else {
                Rc::new(Polygon((0..3 + n % 9).map(|k| ((k as f64).cos() * (n >> 40) as f64, (k as f64).sin() * 100.0)).collect()))
            }
        })
        .collect()
}

fn parse(text: &str) -> Result<(i64, usize), std::num::ParseIntError> {
    let mut sum = 0i64;
    let mut n = 0;
    for word in text.split_whitespace() {
        sum = sum.wrapping_add(word.parse::<i64>()?);
        n += 1;
    }
    Ok((sum, n))
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(600);
    let mut copy = args.next().map(File::create).transpose()?;
    let mut r = Random(1);
    let mut queue: VecDeque<String> = VecDeque::new();
    for round in 0..rounds {
        let mut tree: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut table: HashMap<u64, u64, BuildHasherDefault<DefaultHasher>> = HashMap::default();
        let mut heap = BinaryHeap::new();
        for i in 0..2000u32 {
            let n = r.next();
            tree.entry(format!("{:x}", n % 4099)).or_default().push(i);
            *table.entry(n % 1009).or_insert(0) += n >> 48;
            heap.push(n >> 20);
        }
        tree.retain(|k, v| v.len() > 1 || k.ends_with('7'));
        let range: usize = tree.range("4".to_string().."c".to_string()).map(|(_, v)| v.len()).sum();
        let mut counts: Vec<_> = table.into_iter().collect();
        counts.sort_unstable_by_key(|&(k, v)| (v, k));
        let top: Vec<u64> = std::iter::from_fn(|| heap.pop()).take(100).collect();

        let all = shapes(&mut r);
        let total: f64 = all.iter().map(|s| s.area()).sum();
        let mut names = String::new();
        for s in all.iter().filter(|s| s.area() > 1e6) {
            write!(names, "{};", s.name()).unwrap();
        }

        let mut text = String::new();
        for _ in 0..300 {
            write!(text, "{} ", r.next() as i64 >> 8).unwrap();
        }
        let good = parse(&text);
        text.push_str(if round % 2 == 0 { "äöü" } else { "12" });
        let bad = parse(&text).map_err(|e| e.to_string());

        queue.push_back(text.chars().rev().filter(|c| !c.is_whitespace()).take(20).collect());
        if queue.len() > 16 {
            queue.pop_front();
        }
        let h = digest(&(&tree, &counts, &top, &names, &queue));
        let line = format!(
            "{} tree={} range={} area={:016x} {:?} {:?} {:016x}\n",
            round,
            tree.len(),
            range,
            total.to_bits(),
            good.unwrap(),
            bad,
            h
        );
        io::stdout().write_all(line.as_bytes())?;
        if let Some(f) = copy.as_mut() {
            f.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}
