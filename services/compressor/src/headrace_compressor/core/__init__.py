"""What the compressor knows: quantisation, measurement, and which instruction set they hold for."""
