/**
 * What the kernels of these boards show, written down from documentation, not recorded:
 *
 * - names, layout and units of files: Linux Documentation/ABI (sysfs-class-thermal,
 *   sysfs-devices-system-cpu, sysfs-class-net, sysfs-class-watchdog, sysfs-fs-ext4),
 *   Documentation/driver-api/mmc/mmc-dev-attrs.rst, Documentation/hwmon/raspberrypi-hwmon.rst
 * - models, clocks, thermal zones: arch/arm64/boot/dts/broadcom (bcm2837-rpi-3-b, bcm2711-rpi-4-b,
 *   bcm2712-rpi-5-b, bcm2837-rpi-zero-2-w) and rockchip (rk3328-rock64) of Linux
 * - revision codes, bits of get_throttled, clocks, page size: Raspberry Pi documentation
 * - pm_rsts: Raspberry Pi documentation, properties of chosen/bootloader; BCM2835 PM_RSTS
 * - life_time and pre_eol_info: JEDEC JESD84-B51
 */
import { auxv, word, type Tree } from './tree.ts';

const MEMINFO = (totalKib: number, availableKib: number) =>
  `MemTotal:       ${totalKib} kB\nMemFree:         1000 kB\nMemAvailable:   ${availableKib} kB\n`;
const PRESSURE =
  'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n';
const MOUNTS = (device: string) =>
  `21 1 179:2 / / rw,noatime shared:1 - ext4 ${device} rw,errors=remount-ro\n` +
  '22 21 0:20 / /proc rw - proc proc rw\n' +
  '23 21 7:0 / /snap ro - squashfs /dev/loop0 ro\n';

const common = (device: string): Tree => ({
  'proc/self/mountinfo': MOUNTS(`/dev/${device}`),
  'proc/pressure/memory': PRESSURE,
  'proc/pressure/io': PRESSURE,
  [`sys/fs/ext4/${device}/errors_count`]: '0\n',
  [`sys/fs/ext4/${device}/lifetime_write_kbytes`]: '52428800\n',
  'sys/class/watchdog/watchdog0/bootstatus': '0\n',
  'sys/class/watchdog/watchdog0/timeout': '15\n',
});

const card = (disk: string, type: string, name: string, sectors: number): Tree => ({
  [`sys/block/${disk}/size`]: `${sectors}\n`,
  [`sys/block/${disk}/stat`]: '100 0 800 10 200 0 204800 30 0 40 50 0 0 0 0 0 0\n',
  [`sys/block/${disk}/device/type`]: `${type}\n`,
  [`sys/block/${disk}/device/name`]: `${name}\n`,
  [`sys/block/${disk}/device/manfid`]: '0x000003\n',
  [`sys/block/${disk}/device/serial`]: '0x1a2b3c4d\n',
  [`sys/block/${disk}/device/date`]: '08/2023\n',
});

const wired = (name: string, speed: string): Tree => ({
  [`sys/class/net/${name}/operstate`]: 'up\n',
  [`sys/class/net/${name}/flags`]: '0x1003\n',
  [`sys/class/net/${name}/carrier_changes`]: '2\n',
  [`sys/class/net/${name}/speed`]: speed,
  'sys/class/net/cni0/operstate': 'up\n',
  'sys/devices/virtual/net/cni0/operstate': 'up\n',
});

const clocks = (currentKhz: number, maximumKhz: number): Tree => ({
  'sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq': `${currentKhz}\n`,
  'sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq': `${maximumKhz}\n`,
  'sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq': `${maximumKhz}\n`,
});

const pi = (model: string, revision: number, pageBytes: number, kernel: string): Tree => ({
  'proc/device-tree/model': `${model}\0`,
  'proc/device-tree/serial-number': '10000000a1b2c3d4\0',
  'proc/device-tree/system/linux,revision': word(revision),
  'proc/self/auxv': auxv(pageBytes),
  'proc/sys/kernel/osrelease': `${kernel}\n`,
  'sys/class/watchdog/watchdog0/identity': 'Broadcom BCM2835 Watchdog timer\n',
});

const zone = (type: string, milli: number): Tree => ({
  'sys/class/thermal/thermal_zone0/type': `${type}\n`,
  'sys/class/thermal/thermal_zone0/temp': `${milli}\n`,
  'sys/class/thermal/cooling_device0/type': 'cpufreq-cpu0\n',
});

const firmware = (device: string, bits: string): Tree => ({
  [`sys/bus/platform/drivers/raspberrypi-firmware/${device}/get_throttled`]: `${bits}\n`,
  'sys/bus/platform/drivers/raspberrypi-firmware/bind': '',
});

const voltage = (index: number, alarm: 0 | 1): Tree => ({
  [`sys/class/hwmon/hwmon${index}/name`]: 'rpi_volt\n',
  [`sys/class/hwmon/hwmon${index}/in0_lcrit_alarm`]: `${alarm}\n`,
  'sys/class/hwmon/hwmon0/name': 'cpu_thermal\n',
});

/** A kernel of Raspberry Pi, a weak supply: it dips now. */
export const PI_3: Tree = {
  ...pi('Raspberry Pi 3 Model B Rev 1.2', 0xa0_2082, 4096, '6.12.47+rpt-rpi-v8'),
  ...common('mmcblk0p2'),
  ...card('mmcblk0', 'SD', 'SC16G', 31_116_288),
  ...zone('cpu-thermal', 52_618),
  ...clocks(600_000, 1_200_000),
  ...firmware('soc:firmware', '50005'),
  ...voltage(1, 1),
  ...wired('eth0', '100\n'),
  'proc/meminfo': MEMINFO(948_304, 600_000),
};

/** eMMC would be on a Compute Module: here a 4 B with its card, too hot and held back. */
export const PI_4: Tree = {
  ...pi('Raspberry Pi 4 Model B Rev 1.5', 0xc0_3115, 4096, '6.12.47+rpt-rpi-v8'),
  ...common('mmcblk0p2'),
  ...card('mmcblk0', 'SD', 'SC32G', 62_333_952),
  ...zone('cpu-thermal', 82_277),
  ...clocks(1_000_000, 1_800_000),
  ...firmware('soc:firmware', 'e0008'),
  ...voltage(1, 0),
  ...wired('eth0', '1000\n'),
  'proc/meminfo': MEMINFO(3_884_376, 3_000_000),
  'proc/device-tree/chosen/bootloader/pm_rsts': word(0x20),
};

/** 16 KiB pages, NVMe, a clock with a battery; its mainline kernel tells nothing of its voltage. */
export const PI_5: Tree = {
  ...pi('Raspberry Pi 5 Model B Rev 1.0', 0xd0_4170, 16_384, '6.12.47-arm64-16k'),
  ...common('nvme0n1p2'),
  'sys/block/nvme0n1/size': '500118192\n',
  'sys/block/nvme0n1/stat': '100 0 800 10 200 0 204800 30 0 40 50 0 0 0 0 0 0\n',
  'sys/block/nvme0n1/device/model': 'KXG50ZNV256G\n',
  'sys/block/nvme0n1/device/serial': '78AS1234\n',
  'sys/class/nvme/nvme0/state': 'live\n',
  ...zone('cpu-thermal', 48_450),
  ...clocks(1_500_000, 2_400_000),
  ...wired('eth0', '1000\n'),
  'sys/class/hwmon/hwmon0/name': 'cpu_thermal\n',
  'sys/class/hwmon/hwmon1/name': 'rp1_adc\n',
  'sys/class/rtc/rtc0/since_epoch': '1764108000\n',
  'proc/meminfo': MEMINFO(8_256_000, 7_000_000),
  'proc/device-tree/chosen/bootloader/pm_rsts': word(0x1000),
};

/** Only Wi-Fi, and little memory. */
export const PI_ZERO_2_W: Tree = {
  ...pi('Raspberry Pi Zero 2 W Rev 1.0', 0x90_2120, 4096, '6.12.47+rpt-rpi-v8'),
  ...common('mmcblk0p2'),
  ...card('mmcblk0', 'SD', 'SU08G', 15_523_840),
  ...zone('cpu-thermal', 44_008),
  ...clocks(600_000, 1_000_000),
  ...firmware('soc:firmware', '0'),
  ...voltage(1, 0),
  'sys/class/net/wlan0/operstate': 'up\n',
  'sys/class/net/wlan0/flags': '0x1003\n',
  'sys/class/net/wlan0/carrier_changes': '2\n',
  'proc/net/wireless':
    'Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n' +
    ' face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n' +
    ' wlan0: 0000   27.  -83.  -256        0      0      0      0     10        0\n',
  'proc/meminfo': MEMINFO(436_000, 18_000),
};

/** No Raspberry Pi: no firmware to ask; eMMC that is nearly worn; a watchdog that has bitten. */
export const ROCK64: Tree = {
  'proc/device-tree/model': 'Pine64 Rock64\0',
  'proc/self/auxv': auxv(4096),
  'proc/sys/kernel/osrelease': '6.12.43+deb13-arm64\n',
  ...common('mmcblk1p1'),
  ...card('mmcblk1', 'MMC', 'DF4016', 30_535_680),
  'sys/block/mmcblk1/device/life_time': '0x02 0x0a\n',
  'sys/block/mmcblk1/device/pre_eol_info': '0x01\n',
  ...zone('soc-thermal', 46_250),
  ...clocks(1_008_000, 1_296_000),
  ...wired('end0', '10\n'),
  'sys/class/watchdog/watchdog0/identity': 'Synopsys DesignWare Watchdog\n',
  'sys/class/watchdog/watchdog0/options': '0x8180\n',
  'sys/class/watchdog/watchdog0/bootstatus': '32\n',
  'proc/meminfo': MEMINFO(4_000_000, 3_500_000),
};
