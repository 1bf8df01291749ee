#!/bin/sh
# Make the machine image from Debian's packages alone: build.sh IMAGE.qcow2
# Wants root, and mmdebstrap syslinux mtools dosfstools e2fsprogs fdisk qemu-utils. MIRROR and SUITE may be set.
# No loop device and no mount: the file systems are written from outside, the boot loader by mtools.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
image=${1:?which file? build.sh IMAGE.qcow2}
suite=${SUITE:-bookworm}
mirror=${MIRROR:-$(sed -n 's/^URIs: *//p; s/^deb  *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*\).*/\2/p' \
  /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1)}
[ "$(id -u)" = 0 ] || { echo "build.sh: must be root: the files of the image belong to many users" >&2; exit 2; }
for program in mmdebstrap syslinux mcopy mkfs.vfat mke2fs sfdisk qemu-img; do
  command -v "$program" >/dev/null || { echo "build.sh: $program is missing" >&2; exit 2; }
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root disk=$work/disk

# The initial RAM disk of a fixed list of modules is small and the same wherever it is made.
mkdir -p "$work/initramfs"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$work/initramfs/image.conf"
printf 'virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\next4\n' >"$work/initramfs/modules"

mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
  --include=linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,udev,iproute2,openssh-server,curl,ca-certificates,fdisk,e2fsprogs,xz-utils \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \
  --dpkgopt=path-exclude=/usr/share/locale/* --dpkgopt=path-exclude=/usr/share/info/* \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
  --essential-hook="upload $work/initramfs/image.conf /etc/initramfs-tools/conf.d/image.conf" \
  --essential-hook="upload $work/initramfs/modules /etc/initramfs-tools/modules" \
  "$suite" "$root" "$mirror"

# What makes it ours: the context at boot, and an ssh server that lets nobody in without a key.
cp -a "$here/files/." "$root/"
chown -R 0:0 "$root/usr/local/sbin" "$root/etc/systemd"
chmod 755 "$root/usr/local/sbin/context"
printf 'PasswordAuthentication no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config.d/image.conf"
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
printf 'LABEL=root / ext4 defaults,noatime 0 0\n' >"$root/etc/fstab"
for unit in context.service context-network.service systemd-networkd.service; do
  chroot "$root" systemctl --quiet enable "$unit"
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer getty@tty1.service systemd-logind.service systemd-networkd-wait-online.service systemd-pcrphase.service systemd-pcrphase-sysinit.service; do
  chroot "$root" systemctl --quiet mask "$unit"
done
chroot "$root" passwd -q -l root

# One disk that any BIOS boots: a FAT partition with the loader and the kernel, an ext4 one with the rest.
sector=512 boot_at=2048 boot=131072 root_at=133120 size=${SIZE:-20971520}  # in sectors: 1 MiB, 64 MiB, 65 MiB, 10 GiB
truncate -s $((size * sector)) "$disk"
sfdisk --quiet "$disk" <<PARTS
label: dos
start=$boot_at, size=$boot, type=c, bootable
start=$root_at, type=83
PARTS
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
fat=$work/boot
truncate -s $((boot * sector)) "$fat"
mkfs.vfat -n BOOT "$fat" >/dev/null
cat >"$work/syslinux.cfg" <<CONF
SERIAL 0 115200
DEFAULT linux
LABEL linux
  LINUX vmlinuz
  INITRD initrd
  APPEND root=LABEL=root ro console=tty0 console=ttyS0,115200 net.ifnames=0 loglevel=4
CONF
mcopy -i "$fat" "$work/syslinux.cfg" ::syslinux.cfg
mcopy -i "$fat" "$(ls "$root"/boot/vmlinuz-*)" ::vmlinuz
mcopy -i "$fat" "$(ls "$root"/boot/initrd.img-*)" ::initrd
syslinux --install "$fat"
dd if="$fat" of="$disk" bs=1M seek=$((boot_at * sector / 1048576)) conv=notrunc,sparse status=none
rm -rf "$root"/boot/initrd.img-* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
mke2fs -q -F -t ext4 -L root -E offset=$((root_at * sector)),lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$disk" \
  $(((size - root_at) * sector / 4096 - 1)) 2>"$work/mke2fs" || { cat "$work/mke2fs" >&2; exit 1; }

qemu-img convert -c -O qcow2 "$disk" "$work/image"
mv "$work/image" "$image.new"
mv "$image.new" "$image"
echo "$image: $(($(stat -c %s "$image") / 1048576)) MiB"
