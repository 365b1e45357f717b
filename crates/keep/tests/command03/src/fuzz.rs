//! Calls with nonsense, by a seed. Whatever they are answered, the next one is made.

use wasip3::{
    filesystem::types::{Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags},
    sockets::{
        ip_name_lookup::resolve_addresses,
        types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket},
    },
    wit_stream,
};

use crate::files::root;

/// Marsaglia's xorshift64: enough for a test, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    /// Numbers as attackers like them.
    fn number(&mut self) -> u64 {
        const LIKED: [u64; 9] =
            [0, 1, 4095, 65536, 1 << 31, u32::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];
        match self.below(3) {
            0 => LIKED[self.below(LIKED.len())],
            1 => self.roll() % 10_000,
            _ => self.roll(),
        }
    }

    fn path(&mut self) -> String {
        const PARTS: [&str; 12] =
            ["tmp", "a", "b", "..", ".", "", "/", "data", "c\0d", "\u{202e}x", "etc/passwd", "tmp/a"];
        let parts: Vec<&str> = (0..self.below(5)).map(|_| PARTS[self.below(PARTS.len())]).collect();
        match self.below(20) {
            0 => "x".repeat(5000),
            1 => "a/".repeat(3000),
            _ => parts.join("/"),
        }
    }

    fn address(&mut self) -> IpSocketAddress {
        let port = self.number() as u16;
        match self.below(2) {
            0 => {
                let [a, b, c, d] = (self.number() as u32).to_be_bytes();
                IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) })
            }
            _ => {
                let mut part = || self.roll() as u16 & 0xff;
                let address = (part(), 0, 0, 0, 0, 0xffff, part(), part());
                IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 1, address, scope_id: 7 })
            }
        }
    }
}

pub async fn calls(seed: u64, calls: u64) -> Result<String, String> {
    let mut dice = Dice(seed | 1);
    let mut files: Vec<Descriptor> = vec![root()];
    let mut sockets: Vec<TcpSocket> = Vec::new();
    for _ in 0..calls {
        if files.len() > 16 {
            let place = 1 + dice.below(files.len() - 1);
            files.remove(place);
        }
        if sockets.len() > 8 {
            sockets.remove(dice.below(8));
        }
        if dice.below(3) == 0 {
            socket_call(&mut dice, &mut sockets).await;
        } else {
            let file = dice.below(files.len());
            if let Some(opened) = file_call(&mut dice, &files[file], &files[0]).await {
                files.push(opened);
            }
        }
    }
    Ok("alive".into())
}

async fn file_call(dice: &mut Dice, file: &Descriptor, other: &Descriptor) -> Option<Descriptor> {
    let flags = DescriptorFlags::from_bits_truncate(dice.roll() as u8);
    match dice.below(20) {
        0..6 => {
            let open = OpenFlags::from_bits_truncate(dice.roll() as u8);
            return file.open_at(PathFlags::empty(), dice.path(), open, flags).await.ok();
        }
        6 => {
            let (mut sender, data) = wit_stream::new();
            let written = match dice.below(3) {
                0 => file.append_via_stream(data),
                _ => file.write_via_stream(data, dice.number()),
            };
            sender.write_all(vec![b'x'; dice.below(70_000)]).await;
            drop(sender);
            let _ = written.await;
        }
        7 => {
            let (mut data, ended) = file.read_via_stream(dice.number());
            let _ = data.read(Vec::with_capacity(dice.below(70_000))).await;
            drop(data);
            let _ = ended.await;
        }
        8 => {
            let (mut entries, ended) = file.read_directory();
            let _ = entries.next().await;
            drop(entries);
            let _ = ended.await;
        }
        9 => drop(file.set_size(dice.number()).await),
        10 => drop(file.create_directory_at(dice.path()).await),
        11 => drop(file.remove_directory_at(dice.path()).await),
        12 => drop(file.unlink_file_at(dice.path()).await),
        13 => drop(file.rename_at(dice.path(), other, dice.path()).await),
        14 => drop(file.stat_at(PathFlags::empty(), dice.path()).await),
        15 => drop(file.set_times(NewTimestamp::Now, NewTimestamp::NoChange).await),
        16 => drop(file.link_at(PathFlags::empty(), dice.path(), other, dice.path()).await),
        17 => drop(file.advise(dice.number(), dice.number(), Advice::Random).await),
        18 => drop(file.readlink_at(dice.path()).await),
        _ => drop(file.sync().await),
    }
    None
}

async fn socket_call(dice: &mut Dice, sockets: &mut Vec<TcpSocket>) {
    let family = if dice.below(2) == 0 { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
    if sockets.is_empty() || dice.below(4) == 0 {
        sockets.extend(TcpSocket::create(family).ok());
        return;
    }
    let socket = &sockets[dice.below(sockets.len())];
    match dice.below(9) {
        0 => drop(socket.bind(dice.address())),
        1 => drop(socket.connect(dice.address()).await),
        2 => drop(socket.listen()),
        3 => drop(socket.receive()),
        4 => {
            let (sender, data) = wit_stream::new();
            let sent = socket.send(data);
            drop(sender);
            let _ = sent.await;
        }
        5 => drop((socket.get_local_address(), socket.get_remote_address())),
        6 => drop((socket.set_hop_limit(dice.number() as u8), socket.set_keep_alive_count(dice.number() as u32))),
        7 => drop((socket.set_listen_backlog_size(dice.number()), socket.set_send_buffer_size(dice.number()))),
        _ => drop(resolve_addresses(dice.path()).await),
    }
}
