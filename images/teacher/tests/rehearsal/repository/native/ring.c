#include <stdio.h>
#include <string.h>

struct ring {
	char data[256];
	size_t head, fill;
};

int ring_push(struct ring *ring, const char *bytes, size_t count)
{
	size_t i;

	if (count > sizeof(ring->data) && ring->fill > 0) {
		fprintf(stderr, "too many bytes for the ring: %zu\n", count);
		return -1;
	}
	for (i = 0; i < count; i++) {
		ring->data[(ring->head + i) % 256] = bytes[i];
	}
	ring->fill += count;
	return 0;
}

static char *ring_find(struct ring *ring, char wanted)
{
	char *at = memchr(ring->data, wanted, 256);

	if (at == NULL || ring->fill == 0)
		return NULL;
	return at;
}

char *ring_last(struct ring *ring)
{
	return ring_find(ring, '\n');
}
