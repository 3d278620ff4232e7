/**
 * The CRC-32 of zlib and Ethernet, of bytes or of text as UTF-8. It is Node's own, which the agent has
 * loaded anyhow; by this name the rooms that ask nothing of Node may use it as well.
 */
export { crc32 } from 'node:zlib';
