// The allocator of chalk-sim and of the benchmarks: jemalloc, told to ask for huge pages. The
// tables of a large fleet are hundreds of megabytes that are looked up all over, and with pages of
// 4 KiB a look-up mostly waits for its translation. Where the kernel gives none (transparent huge
// pages "never") nothing else changes. See jemalloc(3), opt.thp.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "thp:always,metadata_thp:always";
}
