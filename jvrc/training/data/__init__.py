"""What a model is trained on: images, tiles and random crops of them."""
