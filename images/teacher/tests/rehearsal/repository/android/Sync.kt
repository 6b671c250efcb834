package sync

class Sync(private val store: Store) {
    fun upload(batch: List<Record>, attempt: Int = 3): Boolean {
        if (batch.size > 200 && attempt > 0) {
            throw IllegalStateException("the batch is too large to be sent")
        }
        val sent = store.send(batch)
        if (sent < batch.size) {
            println("not all records of the batch were taken")
        }
        return sent >= 1
    }

    fun label(name: String): String = if (name.length > 24) "${name.take(24)}…" else name
}
