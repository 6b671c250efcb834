//! Kubernetes' quantities as numbers.

/// The suffixes of a quantity: what a number is multiplied with, and what it is divided by.
const SUFFIXES: [(&str, u64, u64); 16] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("", 1, 1),
];

/// A quantity as a number of bytes, parts of one rounded up; none where it is no quantity, or more than 64 bits hold.
pub fn bytes(quantity: &str) -> Option<u64> {
    let (number, times, divided_by) = split(quantity)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let below = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divided_by.into())?;
    let above = digits.parse::<u128>().ok()?.checked_mul(times.into())?;
    u64::try_from(above.div_ceil(below)).ok()
}

/// The number before a suffix or an exponent, and what they come to. An E without digits after it is a suffix.
fn split(quantity: &str) -> Option<(&str, u64, u64)> {
    let exponent =
        quantity.split_once(['e', 'E']).and_then(|(number, power)| Some((number, power.parse::<i32>().ok()?)));
    if let Some((number, power)) = exponent {
        let ten = 10_u64.checked_pow(power.unsigned_abs())?;
        return Some(if power < 0 { (number, 1, ten) } else { (number, ten, 1) });
    }
    SUFFIXES.iter().find_map(|(suffix, times, by)| Some((quantity.strip_suffix(suffix)?, *times, *by)))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (quantity, expected) in [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("80Gi", 80 << 30),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("5.", 5),
            ("512M", 512_000_000),
            ("1e3", 1_000),
            ("1E3", 1_000),
            ("2E", 2_000_000_000_000_000_000),
            ("2Ei", 2 << 60),
            ("0.0001k", 1),
            ("+1500m", 2),
            ("3e-1", 1),
        ] {
            assert_eq!(bytes(quantity), Some(expected), "{quantity}");
        }
    }

    #[test]
    fn what_is_no_number_of_bytes_is_none() {
        for quantity in ["", ".", "Gi", "-1", "++1", "1 Gi", "1.5.5", "9Xi", "16Ei", "1e99", "1e", "١Gi"] {
            assert_eq!(bytes(quantity), None, "{quantity}");
        }
    }
}
