# On what an image for ARM is built on a PC: the base for ARM, and over it one layer of the PC's
# own builds of the programs that building is made of: apt, dpkg, tar, shells, Perl, Python.
# Debian keeps the libraries of different machines in different folders (multiarch), so both
# kinds run side by side, and QEMU has little left to do. gislab/layers.py takes this layer out
# of the finished image again.
ARG NATIVE=debian:trixie-slim
ARG BASE=debian:trixie-slim
FROM ${NATIVE} AS native
ARG TARGET=arm64

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        # makes a key while ssl-cert is installed
        openssl \
        # many packages are configured by Perl, more than perl-base
        perl \
        # compiles each package of Python to bytecode
        python3-minimal

# What runs apart from the package that it belongs to is found by its path: so all ELF files at
# their own. Data is in the base already, alike on all machines.
RUN own=$(dpkg --print-architecture) \
    && libraries=$(dirname /usr/lib/*/libc.so.6) \
    && mkdir -p /tools/usr/local/bin /tools/etc/apt/apt.conf.d \
    && cp -a --parents "$libraries" /usr/lib*/ld-linux* /usr/share/perl /tools \
    && if test -L /lib64; then cp -a --parents /lib64 /usr/lib64 /tools; fi \
    && find /usr/bin /usr/sbin /usr/lib/apt /usr/lib/dpkg /usr/libexec -type f -perm -u=x \
        # these write or say what machine this is: it has to be the other one
        ! -name arch ! -name iconvconfig ! -name ldconfig ! -name localedef ! -name uname \
        -exec sh -c 'for f; do \
            if [ "$(head -c 4 "$f" | tail -c 3)" = ELF ]; then cp -a --parents "$f" /tools; fi; \
        done' sh {} + \
    # in front of those that a package brings along, of which every file stays as it is
    && mv /tools/usr/bin/python3.* /tools/usr/bin/openssl /tools/usr/local/bin/ \
    && sed 's,/usr/bin/python,/usr/local/bin/python,' /usr/bin/py3compile \
        > /tools/usr/local/bin/py3compile \
    && ln -s "$(basename /tools/usr/local/bin/python3.*)" /tools/usr/local/bin/python3 \
    && chmod 755 /tools/usr/local/bin/py3compile \
    # dpkg has its architecture compiled in, as this word and nowhere else; apt is told
    && test ${#own} = ${#TARGET} \
    && find /tools/usr/bin -name 'dpkg*' -exec sed -i "s/$own/$TARGET/g" {} + \
    && test "$(/tools/usr/bin/dpkg --print-architecture)" = "$TARGET" \
    && printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$TARGET" "$TARGET" \
        > /tools/etc/apt/apt.conf.d/00architecture

FROM ${BASE}
# One layer, and nothing after it.
COPY --from=native /tools /
