# The fuzz targets, one kvferry_fuzz_target(…) each; corpora are committed under tests/fuzz/corpus.
