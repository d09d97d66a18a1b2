"""What the compressor knows: variants, measurement, and which instruction set they hold for."""
