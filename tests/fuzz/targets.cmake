# The fuzz targets, one kvferry_fuzz_target(…) each; corpora are committed under tests/fuzz/corpus.
kvferry_fuzz_target(gguf SOURCES gguf_fuzz.cpp LIBRARIES kvferry::engine
                    CORPUS corpus/gguf ../golden/tiny/bad)
