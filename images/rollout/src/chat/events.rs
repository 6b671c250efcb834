//! Server-sent events, as far as this protocol uses them: the `data` of each line, from bytes as they come.

use super::answer::MAX_TEXT;
use super::error::Fault;

/// The longest line, in bytes: a piece that carries a whole answer, and what surrounds it.
const MAX_LINE: usize = 2 * MAX_TEXT;

/// Lines in the making.
#[derive(Debug, Default)]
pub(super) struct Events {
    unfinished: Vec<u8>,
}

impl Events {
    /// Takes what has come, and hands the data of each line that is whole to `sink`. Comments (which keep a connection alive) and other fields are
    /// passed over.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.unfinished.is_empty() {
                deliver(line, &mut sink)?;
            } else {
                self.unfinished.extend_from_slice(line);
                let whole = std::mem::take(&mut self.unfinished);
                deliver(&whole, &mut sink)?;
            }
        }
        self.unfinished.extend_from_slice(bytes);
        if self.unfinished.len() > MAX_LINE { Err(Fault::TooLong { limit: MAX_LINE }) } else { Ok(()) }
    }
}

fn deliver(line: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.strip_prefix(b"data:") {
        Some(data) => sink(data.strip_prefix(b" ").unwrap_or(data)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut data) = (Events::default(), Vec::new());
        for piece in pieces {
            events
                .take(piece, |bytes| {
                    data.push(String::from_utf8(bytes.to_vec()).unwrap());
                    Ok(())
                })
                .unwrap();
        }
        data
    }

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        let stream = b": ping\r\nevent: x\r\ndata: {\"a\":1}\r\n\r\ndata:b\n\ndata: [DONE]\n\n";
        assert_eq!(data(&[stream]), ["{\"a\":1}", "b", "[DONE]"]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_network_cuts(cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let stream = "data: één\n\ndata: zwei\r\n\r\n: x\ndata: drei\n".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(data(&pieces), ["één", "zwei", "drei"]);
        }
    }
}
