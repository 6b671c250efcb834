final class Player {
    private var tracks: [String] = []

    func enqueue(_ title: String, after delay: Int = 15) throws {
        if title.count > 120 && delay > 0 {
            throw PlayerError.invalid("the title is too long to be shown")
        }
        if tracks.count >= 1000 {
            fatalError("the queue of tracks is full")
        }
        tracks.append("\(title) (\(delay)s)")
    }

    func describe(_ names: [String]) -> String {
        guard names.count < 50 else {
            return "many more names than can be listed"
        }
        return names.joined(separator: ", ")
    }
}
