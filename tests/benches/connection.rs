//! HTTP/1.1 over one connection that stays open, with as little work as can be; and the CPU time of a process.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// A connection to `HOST:PORT`.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(crate) fn open(host: &str) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: host.to_owned() }
    }

    /// Status and body of the answer, which must have a length.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.exchange(method, path, &[], body, |_| {})
    }

    /// As [`Connection::send`], with more lines in the head.
    pub(crate) fn send_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[String],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        self.exchange(method, path, headers, body, |_| {})
    }

    /// As [`Connection::send`]; `note` gets each line of the answer's head.
    pub(crate) fn send_noting(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        note: impl FnMut(&str),
    ) -> (u16, Vec<u8>) {
        self.exchange(method, path, &[], body, note)
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[String],
        body: &[u8],
        mut note: impl FnMut(&str),
    ) -> (u16, Vec<u8>) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{headers}\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).unwrap();
        let (mut status, mut length) = (0, 0);
        for at in 0.. {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end();
            note(line);
            if at == 0 {
                status = line.split(' ').nth(1).unwrap().parse().unwrap();
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        if method == "HEAD" || status == 304 {
            length = 0;
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }
}

/// CPU time that process `pid` has used, user and system, of all of its threads.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}
