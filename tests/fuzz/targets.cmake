# The fuzz targets, one kvferry_fuzz_target(…) each; corpora are committed under tests/fuzz/corpus.
kvferry_fuzz_target(gguf SOURCES gguf_fuzz.cpp LIBRARIES kvferry::engine
                    CORPUS corpus/gguf ../golden/tiny/bad)
kvferry_fuzz_target(wire SOURCES wire_fuzz.cpp LIBRARIES kvferry::core
                    CORPUS corpus/wire ../golden/wire/good ../golden/wire/bad)
target_include_directories(fuzz_wire PRIVATE ${PROJECT_SOURCE_DIR})
kvferry_fuzz_target(session SOURCES session_fuzz.cpp LIBRARIES kvferry::core
                    CORPUS corpus/session ../golden/wire/session)
target_include_directories(fuzz_session PRIVATE ${PROJECT_SOURCE_DIR})
kvferry_fuzz_target(codec SOURCES codec_fuzz.cpp LIBRARIES kvferry::core CORPUS corpus/codec)
kvferry_fuzz_target(tokenizer SOURCES tokenizer_fuzz.cpp LIBRARIES kvferry::engine
                    CORPUS corpus/tokenizer)
target_compile_definitions(fuzz_tokenizer PRIVATE
                           KVFERRY_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
kvferry_fuzz_target(chat_template SOURCES chat_template_fuzz.cpp LIBRARIES kvferry::engine
                    CORPUS corpus/chat_template)
